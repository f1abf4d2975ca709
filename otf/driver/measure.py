"""Errors of the model at labels, measured before they are learned, and their records."""

from dataclasses import asdict, dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.driver.policy import Reason
from otf.driver.records import LabelRecord, Parts, RunState
from otf.engines.labels import Labels
from otf.errors import RunError
from otf.io.labels import StoredLabel
from otf.learning.learner import Learner
from otf.learning.regression import Taught


@dataclass(frozen=True)
class Measured:
    """Errors of the model at a label before learning; see :class:`~.records.LabelRecord`."""

    force_mae: float
    force_p95: float
    force_max: float
    predicted: float
    energy_error: float
    coverage: float


def measure(
    trainer: Learner,
    atoms: Atoms,
    labels: Labels,
    *,
    added: Floats | None = None,
    with_predicted: bool = True,
) -> Measured:
    """Compare the model with a label; NaN before anything was learned.

    Parameters
    ----------
    added
        (N, 3) correction that was added to the model's forces, eV/Angstrom.
    with_predicted
        Whether to compute the predicted errors, which cost more than the prediction.
    """
    error = predicted = np.full((1, 3), np.nan)
    energy_error = coverage = float("nan")
    if trainer.has_learned:
        prediction = trainer.predict(atoms)
        forces = prediction.forces if added is None else prediction.forces + added
        error = np.abs(forces - labels.forces)
        if not labels.level:
            energy_error = (prediction.energy - labels.energy) / len(atoms)
        if with_predicted:
            predicted = trainer.predicted_error(atoms)
        if np.isfinite(predicted).all():
            coverage = float(np.mean(error <= 2.0 * predicted))
    return Measured(
        force_mae=float(error.mean()),
        force_p95=float(np.percentile(error, 95)),
        force_max=float(error.max()),
        predicted=float(np.sqrt(np.mean(predicted**2))),
        energy_error=energy_error,
        coverage=coverage,
    )


def label_record(
    trainer: Learner,
    labels: Labels,
    measured: Measured,
    *,
    index: int,
    step: int,
    reason: Reason,
    elapsed: int,
    total_energy: float = float("nan"),
) -> LabelRecord:
    """The record of a learned label; parameters as in :class:`LabelRecord`."""
    choice = trainer.choice
    return LabelRecord(
        index=index,
        step=step,
        reason=reason,
        elapsed=elapsed,
        wall_s=labels.wall_s,
        scf_iterations=labels.scf_iterations,
        order=choice.order,
        strength=choice.strength,
        size=str(trainer.size),
        total_energy=total_energy,
        **asdict(measured),
    )


def relearn(parts: Parts, state: RunState, *, fs_per_step: float) -> list[StoredLabel]:
    """Restore the trainer to the state of a checkpoint from the stored labels.

    Returns
    -------
    list
        The learned labels.

    Raises
    ------
    RunError
        If they are not those the checkpoint was made with.
    """
    file, numbers = parts.labeller.file, parts.ensemble.atoms.numbers
    # Proposals of hybrid Monte Carlo are labelled, not learned.
    learned = sum(record.reason != "proposal" for record in state.history)
    known = [file[i] for i in range(min(len(file), learned))]
    for label in known:
        if not np.array_equal(label.atoms.numbers, numbers):
            raise RunError(
                f"{file.path}: label {label.index} has other atoms than this run; put the "
                "labels file of this run back in its place"
            )
    labelled = (Taught(s.atoms, s.labels, s.step * fs_per_step) for s in known)
    parts.trainer.restore(state.trainer, labelled)
    return known

"""Learning from recorded data: fit once, or replay the on-the-fly protocol over a trajectory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.engines.labels import Labels
from otf.errors import FileError
from otf.learning.force_model import ForceModel
from otf.learning.trainer import Trainer
from otf.model.residual import Forecast

_COVERAGE_EVERY = 7  # frames between looks at the predicted errors; prime: no beat with a schedule


def recorded_labels(atoms: Atoms, where: str) -> Labels:
    """Energy and forces (and stress) stored with a structure, as ase.io reads them.

    Raises
    ------
    FileError
        If they are not there, or not finite.
    """
    results = {} if atoms.calc is None else atoms.calc.results
    energy = results.get("free_energy", results.get("energy"))
    forces = results.get("forces")
    if energy is None or forces is None:
        missing = "energy" if energy is None else "forces"
        raise FileError(f"{where}: has no {missing}; every frame needs 'energy' and 'forces'")
    stress = atoms.get_stress(voigt=False) if "stress" in results and atoms.pbc.all() else None
    labels = Labels(float(energy), np.asarray(forces, dtype=float), stress)
    problem = labels.problem(len(atoms))
    if problem is not None:
        raise FileError(f"{where}: {problem}")
    return labels


@dataclass(frozen=True)
class Errors:
    """Errors of a model over structures.

    Attributes
    ----------
    force_mae, force_rmse
        Of force components, eV/Angstrom.
    energy_mae, energy_rmse
        eV/atom.
    """

    frames: int
    force_mae: float
    force_rmse: float
    energy_mae: float
    energy_rmse: float


def measure(model: ForceModel, data: Iterable[tuple[Atoms, Labels]]) -> Errors:
    """Errors of a model on labelled structures."""
    forces, energies = [], []
    for atoms, labels in data:
        prediction = model.predict(atoms)
        forces.append((prediction.forces - labels.forces).ravel())
        energies.append((prediction.energy - labels.energy) / len(atoms))
    force, energy = np.concatenate(forces), np.array(energies)
    return Errors(
        len(energies),
        float(np.abs(force).mean()),
        float(np.sqrt(np.mean(force**2))),
        float(np.abs(energy).mean()),
        float(np.sqrt(np.mean(energy**2))),
    )


def fit(trainer: Trainer, data: Iterable[tuple[Atoms, Labels]]) -> None:
    """Learn all structures, each independent of the others, and choose once at the end.

    Rows are accumulated structure by structure: memory holds the structures, the normal equations
    and the rows of the structures kept for leaving out, not all rows.
    """
    for i, (atoms, labels) in enumerate(data):
        trainer.add(atoms, labels, time_fs=1e6 * i)
    trainer.settle()


@dataclass(frozen=True)
class HindcastFrame:
    """One frame of a replayed protocol.

    Attributes
    ----------
    since_label
        Frames since the label before this frame.
    labelled
        Whether its label was learned (after it was predicted).
    force_mae, energy_error
        Of the prediction before the label was learned, eV/Angstrom and eV/atom.
    coverage
        Share of force components within two predicted errors; NaN where it was not looked at.
    """

    index: int
    since_label: int
    labelled: bool
    force_mae: float
    energy_error: float
    coverage: float


def hindcast(
    trainer: Trainer,
    frames: Sequence[Atoms],
    labels_of: Callable[[int], Labels],
    wants_label: Callable[[int], bool],
    labelled: Callable[[int, float, Forecast | None], None],
    audited: Callable[[], bool],
    *,
    frame_fs: float,
    residual: bool = False,
) -> Iterator[HindcastFrame]:
    """Predict every frame, learning those that the protocol asks for.

    Parameters
    ----------
    wants_label
        Asked for each frame in turn.
    labelled
        Told the frame, the mean absolute force error measured there before learning, and the
        forecast of errors to come.
    audited
        Whether the label asked for last came at a time the model had no say in.
    frame_fs
        Time between frames.
    residual
        Add the autoregressive forecast of the residual to the predicted forces.
    """
    last, spacing = 0, 1
    forecast = None
    for i, atoms in enumerate(frames):
        labels = labels_of(i)
        asked = wants_label(i)
        error, energy_error, coverage = float("nan"), float("nan"), float("nan")
        if trainer.n_labels:
            prediction = trainer.predict(atoms)
            forces = prediction.forces
            if forecast is not None:
                forces = forces + forecast.mean((i - last) / spacing)
            errors = np.abs(forces - labels.forces)
            error = float(errors.mean())
            if i % _COVERAGE_EVERY == 0:
                predicted = trainer.predicted_error(atoms)
                if np.isfinite(predicted).all():
                    coverage = float(np.mean(errors <= 2.0 * predicted))
            energy_error = (prediction.energy - labels.energy) / len(atoms)
        since = i - last
        if asked:
            trainer.learn(atoms, labels, time_fs=i * frame_fs, audited=audited())
            labelled(i, error, trainer.error_forecast())
            last, spacing = i, max(1, since)
            if residual:
                forecast = trainer.residual_forecast(trainer.n_labels)
        yield HindcastFrame(i, since, asked, error, energy_error, coverage)

"""Independent check of a run: committed frames are labelled afterwards and compared."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from otf.driver.labelling import ask
from otf.engines.labels import LabelFailure
from otf.errors import RunError
from otf.io.committed import MODEL
from otf.io.trajectory import read_scalars, read_trajectory
from otf.learning.model_file import read_model
from otf.runs.assemble import make_engine
from otf.runs.directory import one_run, read_run
from otf.units import GPA


@dataclass(frozen=True)
class AuditedFrame:
    """Errors of one committed frame: model minus engine.

    Attributes
    ----------
    force_errors
        Of every component, eV/Angstrom.
    energy_error
        eV/atom.
    stress_errors
        Of every component, eV/Angstrom^3, by the current model of the run: frames carry no stress.
        Empty if none is learned (``model.stress_noise_GPa``, or constant pressure).
    """

    step: int
    force_errors: tuple[float, ...]
    energy_error: float
    stress_errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class AuditSummary:
    """Errors over the audited frames, all moved by the model.

    Attributes
    ----------
    energy_spread_meV_atom
        Standard deviation of the energy error, i.e. without its mean, which exerts no force.
    stress_mae_GPa
        NaN if no stress is learned.
    """

    frames: int
    force_mae_meV_A: float
    force_p95_meV_A: float
    force_max_meV_A: float
    energy_mae_meV_atom: float
    energy_spread_meV_atom: float
    stress_mae_GPa: float


def audit(path: Path, *, every: int) -> Iterator[AuditedFrame]:
    """Label every ``every``-th frame among those propagated by the model.

    The engine runs in a temporary directory: the run is not changed.

    Raises
    ------
    RunError
        If the engine does not compute a label, or there is nothing to audit.
    """
    run, config, start = read_run(one_run(path))
    chosen = np.flatnonzero(read_scalars(run.trajectory).source == MODEL)[::every]
    if len(chosen) == 0:
        raise RunError(f"{path}: no frame was propagated by the model yet; run it further first")
    trajectory = read_trajectory(run.trajectory, chosen)
    learned = config.effective_model.stress_noise_GPa is not None and run.model.exists()
    model = read_model(run.model) if learned else None
    engine = make_engine(config)
    with TemporaryDirectory(prefix="otf-audit-") as scratch:
        try:
            engine.open(start, Path(scratch))
            for i in range(len(trajectory)):
                atoms = trajectory.frame(i)
                labels = ask(engine, atoms, index=i)
                if isinstance(labels, LabelFailure):
                    raise RunError(
                        f"step {trajectory.step[i]}: no label: {labels.reason}. {labels.advice}"
                    )
                if config.model.net_force == "subtract":
                    labels = labels.without_net_force()
                error = trajectory.forces[i] - labels.forces
                energy_error = (trajectory.potential_energy[i] - labels.energy) / len(atoms)
                stress: tuple[float, ...] = ()
                if labels.stress is not None and model is not None:
                    predicted = model.predict(atoms).stress
                    if predicted is not None:
                        stress = tuple((predicted - labels.stress).ravel().tolist())
                yield AuditedFrame(
                    int(trajectory.step[i]),
                    tuple(error.ravel().tolist()),
                    float(energy_error),
                    stress,
                )
        finally:
            engine.close()


def audit_summary(frames: list[AuditedFrame]) -> AuditSummary:
    """Statistics over audited frames."""
    force = 1e3 * np.abs(np.concatenate([f.force_errors for f in frames]))
    energy = 1e3 * np.array([f.energy_error for f in frames])
    stress = np.concatenate([f.stress_errors for f in frames])
    return AuditSummary(
        frames=len(frames),
        force_mae_meV_A=float(force.mean()),
        force_p95_meV_A=float(np.percentile(force, 95)),
        force_max_meV_A=float(force.max()),
        energy_mae_meV_atom=float(np.abs(energy).mean()),
        energy_spread_meV_atom=float(energy.std()),
        stress_mae_GPa=float(np.abs(stress).mean()) / GPA if stress.size else float("nan"),
    )

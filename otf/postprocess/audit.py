"""Independent check of a run: committed frames are labelled afterwards and compared."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase import Atoms

from otf.engines.at_once import label_at_once
from otf.engines.labels import LabelFailure, Labels
from otf.engines.launch import UNBOUND
from otf.errors import RunError
from otf.io.committed import MODEL
from otf.io.durable import sole_owner
from otf.io.labels import LabelFile, same_geometry
from otf.io.trajectory import read_scalars, read_trajectory
from otf.learning.model_file import read_model
from otf.runs.assemble import make_engine
from otf.runs.directory import one_run, read_run
from otf.units import GPA, MEV


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

    @property
    def force_mae_meV_A(self) -> float:
        """Mean absolute error of the force components."""
        return float(np.abs(self.force_errors).mean()) / MEV


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


class Audit:
    """Labels of frames of a run, outside its trajectory, and the errors that they show.

    Every label is appended to ``labels.audit.extxyz`` in the run directory, and is read from there
    when the same frame is audited again. They are not kept where the directory cannot be written.

    Parameters
    ----------
    path
        Run directory.
    every
        Frames between two that are labelled, of those propagated by the model.

    Raises
    ------
    RunError
        If there is nothing to audit.
    """

    def __init__(self, path: Path, *, every: int) -> None:
        self._run, self._config, self._start = read_run(one_run(path))
        run = self._run
        chosen = np.flatnonzero(read_scalars(run.trajectory).source == MODEL)[::every]
        if len(chosen) == 0:
            raise RunError(f"{path}: no frame was propagated by the model yet; run it further")
        self._trajectory = read_trajectory(run.trajectory, chosen)
        learned = self._config.effective_model.stress_noise_GPa is not None and run.model.exists()
        self._model = read_model(run.model) if learned else None

    def __len__(self) -> int:
        """Number of frames to label."""
        return len(self._trajectory)

    def frames(self, *, at_once: int = 1) -> Iterator[AuditedFrame]:
        """The errors of each frame, as its label is done.

        Parameters
        ----------
        at_once
            Number of engines that label side by side.

        Raises
        ------
        RunError
            If the engine does not compute a label; those before it are kept.
        FileError
            If another process audits this run.
        """
        run, trajectory = self._run, self._trajectory
        if at_once > 1:  # else Open MPI binds the first rank of every engine to the same core
            os.environ.update(UNBOUND)
        with TemporaryDirectory(prefix="otf-audit-") as scratch, ExitStack() as stack:
            path = run.audit if os.access(run.path, os.W_OK) else Path(scratch) / run.audit.name
            stack.enter_context(sole_owner(path.with_suffix(".lock")))
            file = stack.enter_context(closing(LabelFile(path)))
            stored = {s.step: s for s in (file[i] for i in range(len(file)))}
            missing = {}
            for i in range(len(trajectory)):
                atoms, known = trajectory.frame(i), stored.get(int(trajectory.step[i]))
                if known is not None and same_geometry(known.atoms, atoms):
                    yield self._errors(i, atoms, known.labels)
                else:
                    missing[i] = atoms
            if not missing:
                return
            engines = []
            for number in range(min(at_once, len(missing))):
                engine, own = make_engine(self._config), Path(scratch) / str(number)
                own.mkdir()
                stack.callback(engine.close)
                engine.open(self._start, own)
                engines.append(engine)
            failure = ""
            for i, labels in label_at_once(engines, missing):
                step = int(trajectory.step[i])
                if isinstance(labels, LabelFailure):
                    failure = f"step {step}: no label: {labels.reason}. {labels.advice}"
                    continue
                file.append(step, missing[i], labels)
                yield self._errors(i, missing[i], labels)
            if failure:
                raise RunError(failure)

    def _errors(self, i: int, atoms: Atoms, labels: Labels) -> AuditedFrame:
        trajectory = self._trajectory
        if self._config.model.net_force == "subtract":
            labels = labels.without_net_force()
        stress: tuple[float, ...] = ()
        if labels.stress is not None and self._model is not None:
            predicted = self._model.predict(atoms).stress
            if predicted is not None:
                stress = tuple((predicted - labels.stress).ravel().tolist())
        return AuditedFrame(
            int(trajectory.step[i]),
            tuple((trajectory.forces[i] - labels.forces).ravel().tolist()),
            float(trajectory.potential_energy[i] - labels.energy) / len(atoms),
            stress,
        )


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

"""Averages of a run, corrected from the model to the engine by the run's labels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from otf.analysis.curves import Curves
from otf.analysis.reweighting import reweight
from otf.arrays import Floats
from otf.config import Config
from otf.driver.policy import UNTRIGGERED
from otf.errors import RunError
from otf.io.frames import Frames
from otf.io.labels import StoredLabel, read_labels
from otf.runs.checkpoint import read_checkpoint
from otf.runs.directory import read_run

Analysis = Callable[[Frames], Curves]


def reweighted(path: Path, frames: Frames, analyse: Analysis) -> Curves:
    """Averages corrected from the model to the engine.

    The correction to each curve and number is also returned separately, with its own error: the
    statistical error of the frames and the error of the model stay separate. Quantities that a
    single structure does not have, such as a time series, are not changed.

    Parameters
    ----------
    path
        The run directory.
    frames
        Frames of its trajectory to average over.
    analyse
        Returns averages over frames, on an axis that does not depend on them.

    Raises
    ------
    RunError
        If the samples of the run need no correction, or none can be computed.
    """
    run, config, atoms = read_run(path)
    if config.dynamics.ensemble == "slhmc":
        raise RunError(
            f"{path}: hybrid Monte Carlo samples the engine itself; leave --reweight out"
        )
    state = read_checkpoint(run.checkpoint).state
    stored = read_labels(run.labels)
    span = _steps_of(frames, config.dynamics.timestep_fs)
    chosen = [
        r
        for r in state.history
        if r.reason in UNTRIGGERED
        and r.index < len(stored)
        and span[0] <= r.step <= span[1]
        and not np.isnan(r.energy_error)
    ]
    differences = np.array([-r.energy_error * len(atoms) for r in chosen])
    labels = [stored[r.index] for r in chosen]
    energies = np.array([label.labels.energy for label in labels])
    by_engine = [analyse(_one(frames, *pair)) for pair in zip(labels, energies, strict=True)]
    by_model = [
        analyse(_one(frames, *pair)) for pair in zip(labels, energies - differences, strict=True)
    ]
    temperature = _temperature_K(frames, config)
    before = analyse(frames)
    y, numbers, correction = dict(before.y), dict(before.numbers), None
    for results in (y, numbers):
        for name, plain in list(results.items()):
            samples = _values(by_engine, name, np.shape(plain.mean))
            if samples is None:
                continue
            found = reweight(
                samples,
                differences,
                temperature_K=temperature,
                by_model=_values(by_model, name, np.shape(plain.mean)),
            )
            correction = found
            if found.method != "none":
                results[name] = replace(plain, mean=plain.mean + found.shift.mean)
                results[f"{name}_shift"] = found.shift
    if correction is None:
        raise RunError(f"{path}: none of this can be computed from single labels")
    notes = (
        *before.notes,
        f"correction to the engine: {correction.method}; {correction.why}",
        *(
            [
                f"model and engine differ by {correction.scatter_kT:.2f} kT over "
                f"{correction.labels} labels"
            ]
            if np.isfinite(correction.scatter_kT)
            else []
        ),
    )
    return replace(before, y=y, numbers=numbers, notes=notes)


def _steps_of(frames: Frames, timestep_fs: float) -> tuple[float, float]:
    """First and last step of the frames: labels at other times belong to another ensemble."""
    assert frames.time_fs is not None  # hybrid Monte Carlo was refused
    steps = np.round(frames.time_fs / timestep_fs)
    return float(steps.min()), float(steps.max())


def _temperature_K(frames: Frames, config: Config) -> float:
    """Temperature of the thermostat, if the same for all frames; otherwise the measured one."""
    stages = list(config.dynamics.staged().values())
    numbers = np.unique(frames.stage) if frames.stage is not None else np.arange(len(stages))
    if len(numbers) == 1:
        stage = stages[int(numbers[0])]
        if stage.ensemble != "nve" and stage.temperature_end_K is None:
            return stage.temperature_K
    return float(frames.series["temperature_K"].mean())


def _one(frames: Frames, label: StoredLabel, energy: float) -> Frames:
    """The structure of a label as a frame of the run."""
    return replace(
        frames,
        positions=np.array([label.atoms.positions]),
        cells=np.array([label.atoms.cell.array]),
        time_fs=None,
        velocities=None,
        series={"potential_energy_eV": np.array([energy])},
    )


def _values(single: list[Curves], name: str, shape: tuple[int, ...]) -> Floats | None:
    """Values (labels, …) of a curve or number, or None if single structures do not have it."""
    found = [{**c.y, **c.numbers}.get(name) for c in single]
    if any(f is None or np.shape(f.mean) != shape for f in found):
        return None
    return np.array([f.mean for f in found if f is not None])

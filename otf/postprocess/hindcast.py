"""``otf fit`` and ``otf hindcast``: recorded structures instead of an engine."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from otf.config.schema import Config, Model
from otf.driver.policy import UNTRIGGERED, Policy, PolicyState, Reason, expectation, planned
from otf.engines.labels import Labels
from otf.errors import FileError
from otf.learning.fit import (
    Errors,
    HindcastFrame,
    fit,
    hindcast,
    measure,
    recorded_labels,
)
from otf.learning.trainer import Trainer
from otf.model.descriptor import displaced
from otf.model.residual import Forecast
from otf.runs.assemble import make_policy, make_trainer

_FEW_SAMPLES = 16
_SAMPLES = 64  # training structures that show how the features vary


def read_structures(path: Path) -> list[Atoms]:
    """All frames of a file ASE can read.

    Raises
    ------
    FileError
        If it cannot be read or holds nothing.
    """
    try:
        frames = ase.io.read(path, ":")
    except Exception as error:  # ase.io raises whatever the format's reader raises
        raise FileError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    if not frames:
        raise FileError(f"{path}: holds no structures")
    return list(frames)


def _labelled(path: Path, frames: list[Atoms]) -> Iterator[tuple[Atoms, Labels]]:
    for i, atoms in enumerate(frames):
        yield atoms, recorded_labels(atoms, f"{path}, frame {i}")


@dataclass(frozen=True)
class FitReport:
    """A fitted model and its errors, on its own data and on others."""

    trainer: Trainer
    train: Errors
    test: Errors | None


def fit_file(model: Model, train: Path, test: Path | None) -> FitReport:
    """Fit a model to a file of labelled structures.

    The order of the structures does not matter: they are shuffled, so that the ones left out to
    choose the prior are a fair sample.
    """
    frames = read_structures(train)
    order = np.random.default_rng(0).permutation(len(frames))
    shuffled = [frames[i] for i in order]
    samples = shuffled[:_SAMPLES]
    if len(samples) < _FEW_SAMPLES:  # they would not show how the features vary
        samples = samples + [moved for atoms in samples for moved in displaced(atoms, seed=0)]
    trainer = make_trainer(model, samples, keep_blocks=_SAMPLES)
    fit(trainer, _labelled(train, shuffled))
    model_now = trainer.force_model
    tested = None
    if test is not None:
        tested = measure(model_now, _labelled(test, read_structures(test)))
    return FitReport(trainer, measure(model_now, _labelled(train, frames)), tested)


class _Protocol:
    """A policy run over frames that are already there."""

    def __init__(
        self, policy: Policy, n_frames: int, trainer: Trainer, *, seed: int, forecasts: bool
    ) -> None:
        self._policy = policy
        self._last_frame = n_frames - 1
        self._trainer = trainer
        self._seed = seed
        self._forecasts = forecasts
        self._state = PolicyState()
        self._label = 0
        self._plan: tuple[int, Reason] = (0, "start")

    def wants_label(self, i: int, atoms: Atoms) -> bool:
        elapsed = i - self._label
        if i == 0 or elapsed >= self._plan[0]:
            return True
        every = self._policy.guard_every
        if not every or elapsed % every or self._state.by_engine:
            return False
        fires = self._policy.guard_fires(self._trainer.worst_error(atoms))
        if fires:
            self._plan = (elapsed, "guard")
        return fires

    def audited(self) -> bool:
        return self._plan[1] in UNTRIGGERED and not self._state.by_engine

    def labelled(self, i: int, error: float, forecast: Forecast | None) -> None:
        elapsed = i - self._label
        self._state = self._policy.after_label(
            self._state,
            step=i,
            error=error,
            elapsed=elapsed,
            reason=self._plan[1],
            forecast=expectation(forecast, elapsed) if self._forecasts else None,
        )
        self._label = i
        self._plan = planned(
            self._policy,
            self._state,
            rest=self._last_frame - i,
            n_labels=self._trainer.n_labels,
            seed=self._seed,
        )


def hindcast_file(config: Config, path: Path) -> Iterator[HindcastFrame]:
    """The protocol of a configuration over the frames of a recorded trajectory.

    Frames count as steps of ``dynamics.timestep_fs``; the engine section is not used.
    """
    frames = read_structures(path)
    first = frames[0]
    if any(not np.array_equal(a.numbers, first.numbers) for a in frames):
        raise FileError(f"{path}: the atoms change from frame to frame: not a trajectory")
    trainer = make_trainer(config.effective_model, displaced(first, seed=config.dynamics.seed))
    policy = make_policy(config.policy, config.dynamics.timestep_fs)
    protocol = _Protocol(
        policy,
        len(frames),
        trainer,
        seed=config.dynamics.seed,
        forecasts=config.model.residual == "forecast",
    )
    yield from hindcast(
        trainer,
        frames,
        lambda i: recorded_labels(frames[i], f"{path}, frame {i}"),
        lambda i: protocol.wants_label(i, frames[i]),
        protocol.labelled,
        protocol.audited,
        frame_fs=config.dynamics.timestep_fs,
        residual=config.model.residual == "propagate",
    )


def hindcast_summary(frames: list[HindcastFrame]) -> dict[str, Any]:
    """Errors of the frames predicted between labels, altogether and by the time since a label."""
    predicted = [f for f in frames if not f.labelled]
    counted = predicted or frames[1:]
    force = 1e3 * np.array([f.force_mae for f in counted])
    energy = 1e3 * np.abs([f.energy_error for f in counted])
    since = np.array([f.since_label for f in counted])
    edges = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    by_age = {}
    for low, high in pairwise(edges):
        chosen = force[(since >= low) & (since < high)]
        if len(chosen):
            by_age[f"{low}-{high - 1}"] = float(chosen.mean())
    coverage = [f.coverage for f in counted if not np.isnan(f.coverage)]
    labels = sum(f.labelled for f in frames)
    return {
        "steps": len(frames),
        "labels": labels,
        "labels_percent": 100.0 * labels / len(frames),
        "predicted_frames": len(predicted),
        "force_mae_meV_A": float(force.mean()) if len(force) else None,
        "force_p95_meV_A": float(np.percentile(force, 95)) if len(force) else None,
        "energy_mae_meV_atom": float(energy.mean()) if np.isfinite(energy).any() else None,
        "coverage_percent": float(1e2 * np.mean(coverage)) if coverage else None,
        "force_mae_meV_A_by_steps_since_label": by_age,
    }

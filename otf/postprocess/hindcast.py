"""``otf hindcast``: replay of the on-the-fly protocol over a recorded trajectory."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from otf.config.schema import Learning
from otf.driver.hindcast import HindcastFrame, hindcast
from otf.errors import FileError
from otf.learning.fit import Keys, recorded_labels
from otf.model.descriptor import displaced
from otf.postprocess.fit import read_structures
from otf.runs.assemble import make_policy, make_trainer
from otf.runs.baseline import make_baseline


def hindcast_file(
    path: Path, learning: Learning, keys: Keys | None = None
) -> Iterator[HindcastFrame]:
    """Replay the protocol over the frames of a recorded trajectory.

    Parameters
    ----------
    path
        The trajectory; its frames count as steps of ``learning.timestep_fs``.
    learning
        Model and policy.
    keys
        Names of energy and forces in the file.

    Raises
    ------
    FileError
        If the file cannot be read, is not a trajectory, or lacks labels.
    """
    frames = read_structures(path)
    first = frames[0]
    if any(not np.array_equal(a.numbers, first.numbers) for a in frames):
        raise FileError(f"{path}: the atoms change from frame to frame: not a trajectory")
    yield from hindcast(
        make_trainer(
            learning.model,
            displaced(first, seed=learning.seed),
            baseline=make_baseline(learning.model, first),
        ),
        make_policy(learning.policy, learning.timestep_fs),
        frames,
        lambda i: recorded_labels(frames[i], f"{path}, frame {i}", keys),
        frame_fs=learning.timestep_fs,
        seed=learning.seed,
        residual=learning.model.residual,
    )


def hindcast_summary(frames: list[HindcastFrame]) -> dict[str, Any]:
    """Errors of the frames between labels, in total and by steps since a label."""
    predicted = [f for f in frames if f.predicted]
    counted = predicted or frames[1:]
    force = 1e3 * np.array([f.measured.force_mae for f in counted])
    energy = 1e3 * np.abs([f.measured.energy_error for f in counted])
    since = np.array([f.since_label for f in counted])
    edges = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    by_age = {}
    for low, high in pairwise(edges):
        chosen = force[(since >= low) & (since < high)]
        if len(chosen):
            by_age[f"{low}-{high - 1}"] = float(chosen.mean())
    coverage = [f.measured.coverage for f in counted if not np.isnan(f.measured.coverage)]
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

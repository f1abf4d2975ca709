"""The labels of ``otf audit`` beside the frames that they check."""

from typing import NamedTuple

import numpy as np

from otf.arrays import Floats
from otf.config import Config
from otf.io.committed import MODEL, Trajectory
from otf.io.labels import read_labels, same_geometry
from otf.io.trajectory import read_trajectory
from otf.runs.directory import RunDirectory
from otf.units import MEV


class Audited(NamedTuple):
    """Force components of audited frames, eV/Angstrom, flat, in the same order."""

    frames: int
    predicted: Floats
    true: Floats

    @property
    def force_mae_meV_A(self) -> float:
        """Mean absolute error of a component."""
        return float(np.abs(self.predicted - self.true).mean()) / MEV


def audited(run: RunDirectory, config: Config, t: Trajectory) -> Audited | None:
    """What an audit has found in the frames that the model moved; None if there was none."""
    if not run.audit.exists():
        return None
    known = {stored.step: stored for stored in read_labels(run.audit)}
    rows = np.flatnonzero((t.source == MODEL) & np.isin(t.step, list(known)))
    frames = read_trajectory(run.trajectory, rows)
    predicted, true = [], []
    for i in range(len(frames)):
        stored = known[int(frames.step[i])]
        if same_geometry(stored.atoms, frames.frame(i)):
            labels = stored.labels
            if config.model.net_force == "subtract":
                labels = labels.without_net_force()
            predicted.append(frames.forces[i].ravel())
            true.append(labels.forces.ravel())
    if not true:
        return None
    return Audited(len(true), np.concatenate(predicted), np.concatenate(true))

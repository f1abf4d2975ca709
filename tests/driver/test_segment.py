"""Segments of dynamics that diverge."""

import numpy as np
import pytest
from ase.build import bulk

from otf.config.dynamics import Dynamics
from otf.driver.generators import exhausted
from otf.driver.segment import EngineForces, SegmentIntegrator
from otf.engines.labels import Labels
from otf.learning.baseline import BaselineError
from otf.runs.assemble import make_ensemble


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("stress", [np.nan, 1e200])
def test_a_barostat_that_overflows_ends_a_segment(stress):
    atoms = bulk("Cu", cubic=True)
    settings = {"ensemble": "npt_full", "steps": 4, "temperature_K": 300.0, "pressure_GPa": 0.0}
    motion = SegmentIntegrator(make_ensemble(Dynamics(**settings), atoms), timestep_fs=1.0)
    labels = Labels(0.0, np.zeros((4, 3)), stress * np.eye(3))
    forces = EngineForces(labels, lambda _step: labels)
    integrated = exhausted(motion.integrate(motion.position, 4, forces))
    assert integrated.reason == "explosion"


class FailsAtThird:
    """Forces with a baseline that has no value at the third step."""

    work = 0.0

    def begin(self, atoms, step, length):
        return self.at(atoms, step)

    def acting(self, driving):
        return driving

    def at(self, atoms, step):
        if step == 3:
            raise BaselineError("no convergence")
        return Labels(0.0, np.zeros((len(atoms), 3)))

    def diverged(self, before, atoms, driving):
        return False


def test_a_baseline_that_fails_ends_a_segment_before_that_step():
    atoms = bulk("Cu", cubic=True)
    settings = {"ensemble": "nve", "steps": 9, "temperature_K": 300.0}
    motion = SegmentIntegrator(make_ensemble(Dynamics(**settings), atoms), timestep_fs=1.0)
    integrated = exhausted(motion.integrate(motion.position, 9, FailsAtThird()))
    assert (integrated.reason, integrated.length) == ("explosion", 2)

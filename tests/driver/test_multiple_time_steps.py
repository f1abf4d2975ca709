"""Multiple time steps: conservation, reversibility, and how often the engine is evaluated."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

from otf.config.dynamics import Dynamics
from otf.driver.multiple_time_steps import MultipleTimeSteps
from otf.learning.baseline import Baseline, EngineTerm, Stepping, TermSettings
from otf.learning.prior_mean import ModelTerm
from otf.runs.assemble import make_ensemble
from tests.learning.test_baseline import MORSE, trained

EMT = TermSettings("ase", {"calculator": "ase.calculators.emt:EMT"})
TIMESTEP_FS = 4.0


class Counted(EngineTerm):
    """EMT that counts its evaluations."""

    count = 0

    def label(self, atoms):
        self.count += 1
        return super().label(atoms)


@pytest.fixture(scope="module")
def fast():
    return ModelTerm("ase", trained(count=4).force_model)


@pytest.fixture(scope="module")
def zero():
    return trained(count=0).force_model


class Trajectory:
    """Microcanonical dynamics of copper on EMT in segments."""

    def __init__(self, zero, fast, every, *, most_change=np.inf, temperature_K=300.0):
        self.engine = Counted(EMT)
        stepping = Stepping(Baseline([fast]), every, most_change)
        self.model = replace(zero, baseline=Baseline([self.engine], stepping=stepping))
        self.atoms = bulk("Cu", cubic=True)
        settings = {"ensemble": "nve", "steps": 10**6, "temperature_K": temperature_K}
        self.ensemble = make_ensemble(Dynamics(**settings, timestep_fs=TIMESTEP_FS), self.atoms)

    def run(self, length):
        """Total energies at the steps of a segment, eV, and the steps with an evaluation."""
        forces = MultipleTimeSteps(self.model, length)
        predicted, energies, evaluated = forces.predict(self.atoms), [], []
        acting = forces.acting(predicted)

        def ahead(moved):
            nonlocal predicted
            predicted = forces.predict(moved)
            return forces.acting(predicted)

        for step in range(length):
            before = self.engine.count
            acting = self.ensemble.step(step, acting, ahead)
            energies.append(predicted.energy + self.atoms.get_kinetic_energy())
            if self.engine.count > before:
                evaluated.append(step + 1)
        return np.array(energies), evaluated


def test_the_energy_is_conserved_as_with_single_steps(zero, fast):
    deviations = []
    for every in (1, 4):
        energies, evaluated = Trajectory(zero, fast, every).run(400)
        assert evaluated == list(range(every, 401, every))
        outer = energies[np.array(evaluated) - 1]
        drift = np.polyfit(np.arange(len(outer)) / len(outer), outer, 1)[0]
        deviations.append((outer.std(), abs(drift)))
    single, multiple = deviations
    assert multiple[0] < 1.25 * single[0]
    assert multiple[1] < single[0]


def test_energies_between_the_outer_steps_are_of_first_order(zero, fast):
    energies, _ = Trajectory(zero, fast, 4).run(200)
    single, _ = Trajectory(zero, fast, 1).run(200)
    assert np.ptp(energies) < 2.0 * np.ptp(single)


def test_segments_of_any_length_end_with_an_outer_step(zero, fast):
    whole = Trajectory(zero, fast, 4)
    _, evaluated = whole.run(11)
    assert evaluated == [4, 8, 11]
    energies = np.concatenate([whole.run(length)[0][-1:] for length in (7, 3, 1, 9, 5) * 8])
    single, _ = Trajectory(zero, fast, 1).run(200)
    assert energies.std() < 1.5 * single.std()


def test_one_step_is_velocity_verlet_to_the_bit(zero, fast):
    single = Trajectory(zero, fast, 1)
    single.run(20)
    plain = Trajectory(zero, fast, 1)
    plain.model = replace(plain.model, baseline=replace(plain.model.baseline, stepping=None))
    plain.run(20)
    assert single.atoms.positions.tobytes() == plain.atoms.positions.tobytes()


def test_it_is_reversible(zero, fast):
    there = Trajectory(zero, fast, 4)
    start = there.atoms.get_positions()
    there.run(24)
    moved = there.atoms.get_positions()
    there.atoms.set_momenta(-there.atoms.get_momenta())
    there.run(24)
    assert np.abs(moved - start).max() > 0.02
    assert np.abs(there.atoms.positions - start).max() < 1e-9


@pytest.mark.full
def test_fast_forces_that_are_far_off_are_corrected_more_often(zero):
    options = {key: value for key, value in MORSE.items() if key != "kind"}
    poor = EngineTerm(TermSettings("ase", options))
    free = Trajectory(zero, poor, 16, temperature_K=900.0)
    careful = Trajectory(zero, poor, 16, most_change=0.02, temperature_K=900.0)
    deviations = [trajectory.run(240)[0].std() for trajectory in (free, careful)]
    assert careful.engine.count > 1.5 * free.engine.count
    assert deviations[1] < 0.2 * deviations[0]

"""Integrators on a learned surface: energy error, distributions, exact state."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from scipy import stats

from otf.dynamics.ensembles import Ensemble, EnsembleSettings, draw_velocities, remove_motion
from otf.labels import Labels
from otf.learning.regression import TrainerSettings
from otf.learning.trainer import Trainer
from otf.model.blueprint import Blueprint, Choices
from otf.model.descriptor import DescriptorSettings, displaced
from otf.units import KELVIN


def settings(kind: str, timestep_fs: float = 2.0, temperature_K: float = 300.0) -> EnsembleSettings:
    return EnsembleSettings(kind, timestep_fs, temperature_K, 20.0, 20.0)


@pytest.fixture(scope="module")
def aluminium() -> Trainer:
    """A model of fcc aluminium that has seen 25 EMT labels."""
    start = bulk("Al", cubic=True) * (2, 2, 2)
    choices = Choices(("species",), components=(4,), four_body=(False,))
    descriptor = DescriptorSettings(4.5, 4.0, 0.0, 6, 2, 2)
    trainer = Trainer(Blueprint(descriptor, displaced(start, seed=0), choices), TrainerSettings())
    rng = np.random.default_rng(0)
    for i in range(25):
        atoms = start.copy()
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        atoms.calc = EMT()
        labels = Labels(atoms.get_potential_energy(), atoms.get_forces())
        trainer.learn(atoms, labels, time_fs=30.0 * i, audited=True)
    return trainer


def moving(seed: int = 0):
    atoms = bulk("Al", cubic=True) * (2, 2, 2)
    rng = np.random.default_rng(seed)
    draw_velocities(atoms, 300.0, rng, remove_translation=True, remove_rotation=False)
    return atoms, rng


def energies(trainer: Trainer, timestep_fs: float, time_fs: float) -> np.ndarray:
    atoms, rng = moving()
    ensemble = Ensemble(atoms, settings("nve", timestep_fs), rng)
    forces = trainer.predict(atoms).forces
    out = []
    for _ in range(round(time_fs / timestep_fs)):
        forces = ensemble.step(forces, lambda a: trainer.predict(a).forces)
        out.append(trainer.predict(atoms).energy + atoms.get_kinetic_energy())
    return np.array(out)


def test_energy_error_falls_as_the_square_of_the_timestep(aluminium):
    coarse, fine = (np.std(energies(aluminium, dt, 400.0)) for dt in (4.0, 2.0))
    assert 3.2 < coarse / fine < 4.8


@pytest.mark.parametrize("kind", ["csvr", "langevin", "nhc"])
def test_heat_of_the_thermostat_balances_the_energy(aluminium, kind):
    """K + V less the heat is off by the square of the timestep, as without a thermostat."""

    def scatter(timestep_fs: float) -> tuple[float, float]:
        atoms, rng = moving()
        ensemble = Ensemble(atoms, settings(kind, timestep_fs, 900.0), rng, conserved=3)
        forces = aluminium.predict(atoms).forces
        heat, conserved = 0.0, []
        for _ in range(round(400.0 / timestep_fs)):
            forces = ensemble.step(forces, lambda a: aluminium.predict(a).forces)
            heat += ensemble.heat
            energy = aluminium.predict(atoms).energy + atoms.get_kinetic_energy()
            conserved.append(energy - heat)
        return float(np.std(conserved)), heat

    (coarse, heat), (fine, _) = scatter(4.0), scatter(1.0)
    assert 8.0 < coarse / fine < 32.0  # sixteen, but for other random numbers
    assert heat > 50.0 * coarse


def test_momentum_is_conserved(aluminium):
    atoms, rng = moving()
    ensemble = Ensemble(atoms, settings("nve"), rng)
    forces = aluminium.predict(atoms).forces
    for _ in range(50):
        forces = ensemble.step(forces, lambda a: aluminium.predict(a).forces)
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "conserved"), [("csvr", 3), ("langevin", 0), ("nhc", 3)])
def test_kinetic_energy_has_the_canonical_distribution(aluminium, kind, conserved, long):
    atoms, rng = moving(3)
    ensemble = Ensemble(atoms, settings(kind), rng, conserved=3)
    forces = aluminium.predict(atoms).forces
    samples = []
    for step in range(40000 if long else 6000):
        forces = ensemble.step(forces, lambda a: aluminium.predict(a).forces)
        if step > 500 and step % 40 == 0:  # 80 fs apart, four relaxation times
            samples.append(2.0 * atoms.get_kinetic_energy() / (KELVIN * 300.0))
    degrees = 3 * len(atoms) - conserved
    assert stats.kstest(samples, stats.chi2(degrees).cdf).pvalue > 1e-3
    if kind != "langevin":
        assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-9


@pytest.mark.parametrize("kind", ["nve", "csvr", "langevin", "nhc"])
def test_restored_state_repeats_the_trajectory_to_the_last_bit(aluminium, kind):
    atoms, rng = moving(1)
    ensemble = Ensemble(atoms, settings(kind), rng)

    def walk(steps: int) -> bytes:
        forces = aluminium.predict(atoms).forces
        heat = []
        for _ in range(steps):
            forces = ensemble.step(forces, lambda a: aluminium.predict(a).forces)
            heat.append(ensemble.heat)
        return atoms.positions.tobytes() + atoms.get_momenta().tobytes() + np.array(heat).tobytes()

    walk(5)
    state = ensemble.capture()
    first = walk(20)
    ensemble.restore(state)
    assert walk(20) == first


@pytest.mark.parametrize("rotation", [False, True])
def test_drawn_velocities_have_the_temperature_and_no_motion_of_the_whole(rotation):
    atoms = molecule("C6H6")
    rng = np.random.default_rng(5)
    draw_velocities(atoms, 300.0, rng, remove_translation=True, remove_rotation=rotation)
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-10
    degrees = 36 - 3 - (3 if rotation else 0)
    assert 2 * atoms.get_kinetic_energy() / degrees / KELVIN == pytest.approx(300.0)
    if rotation:
        assert np.abs(atoms.get_angular_momentum()).max() < 1e-8


def test_linear_molecule_loses_two_rotations():
    atoms = molecule("CO2")
    atoms.set_momenta(np.random.default_rng(0).normal(size=(3, 3)))
    assert remove_motion(atoms, translation=True, rotation=True) == 5
    assert np.abs(np.cross(atoms.positions, atoms.get_momenta()).sum(axis=0)).max() < 1e-12


def test_drawing_is_reproducible():
    momenta = [moving(7)[0].get_momenta().tobytes() for _ in range(2)]
    assert momenta[0] == momenta[1] != moving(8)[0].get_momenta().tobytes()

"""Integrators on a learned potential: energy error, distributions, exact state."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.md.langevinbaoab import LangevinBAOAB
from scipy import stats

from otf.dynamics.ensembles import Ensemble, EnsembleSettings
from otf.dynamics.stages import Stage, StagedEnsemble
from otf.dynamics.velocities import draw_velocities, remove_motion
from otf.engines.labels import Labels
from otf.learning.calculator import ModelCalculator
from otf.learning.regression import TrainerSettings
from otf.learning.trainer import Trainer
from otf.model.blueprint import Blueprint, Choices
from otf.model.descriptor import DescriptorSettings, displaced
from otf.units import FS, GPA, KELVIN


def settings(kind: str, timestep_fs: float = 2.0, temperature_K: float = 300.0) -> EnsembleSettings:
    return EnsembleSettings(
        kind, timestep_fs, temperature_K, 20.0, 20.0, pressure_GPa=2.0, pressure_constant_fs=200.0
    )


@pytest.fixture(scope="module")
def aluminium() -> Trainer:
    """A model of fcc aluminium trained on 25 EMT labels."""
    start = bulk("Al", cubic=True) * (2, 2, 2)
    choices = Choices(("species",), components=(4,), four_body=(False,))
    descriptor = DescriptorSettings(4.5, 4.0, 0.0, 8, 2, 2)
    blueprint = Blueprint(descriptor, displaced(start, seed=0), choices)
    trainer = Trainer(blueprint, TrainerSettings(stress_noise=1e-3))
    rng = np.random.default_rng(0)
    for i in range(25):
        atoms = start.copy()
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(scale=0.01, size=(3, 3))), True)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        atoms.calc = EMT()
        stress = atoms.get_stress(voigt=False)
        labels = Labels(atoms.get_potential_energy(), atoms.get_forces(), stress)
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
    acting = trainer.predict(atoms)
    out = []
    for _ in range(round(time_fs / timestep_fs)):
        acting = ensemble.step(acting, trainer.predict)
        out.append(trainer.predict(atoms).energy + atoms.get_kinetic_energy())
    return np.array(out)


def test_energy_error_falls_as_the_square_of_the_timestep(aluminium):
    coarse, fine = (np.std(energies(aluminium, dt, 400.0)) for dt in (4.0, 2.0))
    assert 3.2 < coarse / fine < 4.8


@pytest.mark.parametrize("kind", ["csvr", "langevin", "nhc", "npt", "npt_full"])
def test_heat_of_the_thermostat_balances_the_energy(aluminium, kind):
    """The error of K + V less the heat is of second order in the timestep, as in NVE."""

    def scatter(timestep_fs: float) -> tuple[float, float]:
        atoms, rng = moving()
        ensemble = Ensemble(atoms, settings(kind, timestep_fs, 900.0), rng, conserved=3)
        acting = aluminium.predict(atoms)
        heat, conserved = 0.0, []
        for _ in range(round(400.0 / timestep_fs)):
            acting = ensemble.step(acting, aluminium.predict)
            heat += ensemble.heat + ensemble.barostat
            energy = aluminium.predict(atoms).energy + atoms.get_kinetic_energy()
            conserved.append(energy - heat)
        return float(np.std(conserved)), heat

    (coarse, heat), (fine, _) = scatter(4.0), scatter(1.0)
    assert 8.0 < coarse / fine < 32.0  # 16 up to different random numbers
    assert heat > 50.0 * coarse


def test_momentum_is_conserved(aluminium):
    atoms, rng = moving()
    ensemble = Ensemble(atoms, settings("nve"), rng)
    acting = aluminium.predict(atoms)
    for _ in range(50):
        acting = ensemble.step(acting, aluminium.predict)
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "conserved"),
    [
        ("csvr", 3),
        ("langevin", 0),
        ("nhc", 3),
        pytest.param("npt", 3, marks=pytest.mark.full),
        pytest.param("npt_full", 3, marks=pytest.mark.full),
    ],
)
def test_kinetic_energy_has_the_canonical_distribution(aluminium, kind, conserved, long):
    atoms, rng = moving(3)
    ensemble = Ensemble(atoms, settings(kind), rng, conserved=3)
    acting = aluminium.predict(atoms)
    # 80 fs apart on average; equal spacing would sample a single phase of the chain's oscillation.
    steps = 40000 if long else 6000
    seen = np.random.default_rng(1).random(steps) < 1 / 40
    samples = []
    for step in range(steps):
        acting = ensemble.step(acting, aluminium.predict)
        if step > 500 and seen[step]:
            samples.append(2.0 * atoms.get_kinetic_energy() / (KELVIN * 300.0))
    degrees = 3 * len(atoms) - conserved
    assert stats.kstest(samples, stats.chi2(degrees).cdf).pvalue > 1e-3
    if kind != "langevin":
        assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-9


@pytest.mark.parametrize("kind", ["nve", "csvr", "langevin", "nhc", "npt", "npt_full"])
def test_restored_state_repeats_the_trajectory_to_the_last_bit(aluminium, kind):
    atoms, rng = moving(1)
    ensemble = Ensemble(atoms, settings(kind), rng)

    def walk(steps: int) -> bytes:
        acting = aluminium.predict(atoms)
        heat = []
        for _ in range(steps):
            acting = ensemble.step(acting, aluminium.predict)
            heat.append(ensemble.heat + ensemble.barostat)
        return (
            atoms.positions.tobytes()
            + atoms.cell.array.tobytes()
            + atoms.get_momenta().tobytes()
            + np.array(heat).tobytes()
        )

    walk(5)
    state = ensemble.capture()
    first = walk(20)
    ensemble.restore(state)
    assert walk(20) == first


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npt", "npt_full"])
def test_cell_has_the_pressure_and_the_temperature_it_should(aluminium, kind, long):
    """Ensemble averages of the pressure and of the kinetic energy of the cell."""
    atoms, rng = moving(4)
    ensemble = Ensemble(atoms, settings(kind), rng, conserved=3)
    acting = aluminium.predict(atoms)
    pressures, squares = [], []
    for step in range(40000 if long else 5000):
        acting = ensemble.step(acting, aluminium.predict)
        if step > 500:
            kinetic = 2 * atoms.get_kinetic_energy() / atoms.get_volume()
            pressures.append((kinetic - np.trace(acting.stress)) / 3 / GPA)
            squares.append(np.sum(ensemble.capture().baths[-9:] ** 2))
    blocks = np.array([block.mean() for block in np.array_split(pressures, 15)])
    assert abs(blocks.mean() - 2.0) < 4 * blocks.std() / np.sqrt(15)
    assert blocks.std() / np.sqrt(15) < 0.05
    if kind == "npt_full":  # npt has one momentum: needs 100 times the steps
        mass = 32 * KELVIN * 300.0 * (200.0 * FS) ** 2
        assert np.mean(squares) / (6 * mass * KELVIN) == pytest.approx(300.0, rel=0.25)


@pytest.mark.full
@pytest.mark.slow
def test_volumes_are_those_of_another_barostat(aluminium, long):
    """Compared with ase.md's Langevin barostat, an independent sampler of the same distribution."""
    samples = []
    for kind in ("npt", "langevin"):
        atoms, rng = moving(6)
        ensemble = Ensemble(atoms, settings("npt"), rng, conserved=3)
        acting = aluminium.predict(atoms)
        if kind == "langevin":
            atoms.calc = ModelCalculator(aluminium.force_model)
            other = LangevinBAOAB(
                atoms, 2.0 * FS, temperature_K=300.0, externalstress=-2.0 * GPA, hydrostatic=True,
                T_tau=50.0 * FS, P_tau=100.0 * FS, P_mass=1000.0, rng=rng,
            )  # fmt: skip
        volumes = []
        for step in range(50000 if long else 6000):
            if kind == "npt":
                acting = ensemble.step(acting, aluminium.predict)
            else:
                other.step()
            if step > 500 and step % 50 == 0:
                volumes.append(atoms.get_volume())
        samples.append(volumes)
    assert np.std(samples[0]) > 1.0  # Angstrom^3: the cell does move
    assert stats.ks_2samp(*samples).pvalue > 1e-3


def test_stages_follow_each_other_and_come_back_from_a_checkpoint(aluminium):
    def staged():
        atoms, rng = moving(2)
        stages = [
            Stage("heat", 20, settings("langevin"), temperature_end_K=600.0),
            Stage("press", 20, settings("npt"), pressure_end_GPa=5.0),
            Stage("produce", 20, settings("nve")),
        ]
        return atoms, StagedEnsemble(atoms, stages, rng, translation=True)

    atoms, ensemble = staged()
    acting, given, states = aluminium.predict(atoms), [], {}
    start = acting.energy + atoms.get_kinetic_energy()
    for step in range(60):
        states[step] = ensemble.capture(), atoms.copy()
        acting = ensemble.step(step, acting, aluminium.predict)
        given.append(ensemble.heat + ensemble.barostat)
    assert [states[s][0].stage for s in (0, 20, 21, 40, 41)] == [0, 0, 1, 1, 2]
    assert given[40] == 0.0 != given[39]
    assert np.array_equal(states[41][1].cell.array, atoms.cell.array)  # nve keeps the last cell
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-9  # drift from the noise is removed
    energy = acting.energy + atoms.get_kinetic_energy()
    assert abs(energy - start - sum(given)) < 0.01 * abs(energy - start)
    for begin in (10, 20, 30, 40, 50):
        again, other = staged()
        other.restore(states[begin][0])
        acting = aluminium.predict(again)
        for step in range(begin, 60):
            acting = other.step(step, acting, aluminium.predict)
        assert again.positions.tobytes() == atoms.positions.tobytes()
        assert again.get_momenta().tobytes() == atoms.get_momenta().tobytes()


@pytest.mark.parametrize("kind", ["csvr", "nhc", "npt"])
def test_atoms_at_rest_are_set_moving_where_a_thermostat_begins(aluminium, kind):
    atoms = bulk("Al", cubic=True) * (2, 2, 2)
    stages = [Stage("still", 3, settings("nve")), Stage("warm", 50, settings(kind))]
    ensemble = StagedEnsemble(atoms, stages, np.random.default_rng(0), translation=True)
    acting, heat = aluminium.predict(atoms), 0.0
    start = acting.energy
    for step in range(53):
        acting = ensemble.step(step, acting, aluminium.predict)
        heat += ensemble.heat + ensemble.barostat
    assert 100.0 < ensemble.temperature() < 500.0
    energy = acting.energy + atoms.get_kinetic_energy()
    assert energy - start == pytest.approx(heat, rel=0.02)


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

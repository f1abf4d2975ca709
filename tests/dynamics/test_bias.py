"""Biases: derivatives, the energy account, the ensembles they produce, and free energies."""

import math

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from otf.analysis.free_energy import free_energy
from otf.config.dynamics import Dynamics
from otf.driver.generators import exhausted
from otf.driver.segment import SegmentIntegrator
from otf.dynamics.bias import Bias, Metadynamics, Pushed, Restraint, Walls
from otf.dynamics.collective_variables import CollectiveVariable
from otf.engines.labels import Labels
from otf.runs.assemble import make_ensemble
from otf.units import KELVIN

DISTANCE = CollectiveVariable("distance", (2, 0))
TORSION = CollectiveVariable("torsion", (1, 3, 0, 2))
VARIABLES = [
    DISTANCE,
    CollectiveVariable("difference", (0, 1, 1, 3)),
    CollectiveVariable("angle", (3, 0, 1)),
    TORSION,
]
STEP = 1e-5
NOTHING = Pushed(np.zeros((4, 3)), np.zeros((3, 3)))


def structure(seed, pbc=True):
    rng = np.random.default_rng(seed)
    cell = 8.0 * np.eye(3) + rng.normal(size=(3, 3))
    return Atoms("H4", positions=rng.uniform(-4.0, 12.0, (4, 3)), cell=cell, pbc=pbc)


def displaced(atoms, number, axis, size):
    moved = atoms.copy()
    moved.positions[number, axis] += size
    return moved


def strained(atoms, row, column, size):
    strain = np.eye(3)
    strain[row, column] += 0.5 * size
    strain[column, row] += 0.5 * size
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return moved


def assert_pushes_downhill(bias, atoms, *, kink=0.0):
    """Forces and stress are minus the derivatives of the energy.

    Differences across a jump of the second derivative, ``kink``, are half a step off.
    """

    def slope(make, *where):
        ends = [bias.energy(make(atoms, *where, size)) for size in (STEP, -STEP)]
        return (ends[0] - ends[1]) / (2.0 * STEP)

    pushed = bias.begin(NOTHING, atoms, 0)
    forces = [[-slope(displaced, i, axis) for axis in range(3)] for i in range(4)]
    stress = [[slope(strained, r, c) / atoms.get_volume() for c in range(3)] for r in range(3)]
    steep = 1.0 + np.abs(pushed.forces).max() ** 3  # variables are curved where atoms come close
    tolerance = 1e-7 * steep + kink * STEP
    np.testing.assert_allclose(pushed.forces, forces, atol=tolerance)
    np.testing.assert_allclose(pushed.stress, stress, atol=tolerance)


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda v: v.kind)
@given(seed=st.integers(0, 10**6))
def test_a_restraint_pushes_downhill(variable, seed):
    atoms = structure(seed)
    centre = variable.of(atoms).value + 0.3
    assert_pushes_downhill(Bias([Restraint((variable,), centre, 0.7)]), atoms)


@pytest.mark.parametrize("distance", [1.0, 1.5 - 1e-7, 1.5, 2.2, 3.0 + 1e-7, 3.5])
def test_walls_push_downhill_across_their_ends(distance):
    atoms = structure(0, pbc=False)
    atoms.positions[2] = atoms.positions[0] + [0.0, distance, 0.0]
    bias = Bias([Walls((DISTANCE,), 1.5, 3.0, 4.0)])
    assert_pushes_downhill(bias, atoms, kink=4.0)
    assert (bias.energy(atoms) == 0.0) == (1.5 <= distance <= 3.0)


@pytest.mark.parametrize("degrees", [-179.0, 179.9999, 100.0, 120.0, 180.0, -121.0, -60.0, 45.0])
def test_walls_of_a_torsion_are_ends_of_an_arc(degrees):
    """Kept between 120 and 240 degrees, on both sides of 180."""
    atoms = Atoms("H4", [[1, 0, 0], [0, 0, 0], [0, 0, 1.2], [0, 0, 0]], cell=[9.0] * 3)
    torsion = CollectiveVariable("torsion", (0, 1, 2, 3))
    turned = np.radians(degrees)
    atoms.positions[3] = [np.cos(turned), np.sin(turned), 1.3]
    bias = Bias([Walls((torsion,), np.radians(120.0), np.radians(240.0), 2.0)])
    beyond = max(0.0, 60.0 - degrees % 360.0 + 60.0, degrees % 360.0 - 240.0)
    beyond = min(beyond, 240.0 - beyond)
    assert bias.energy(atoms) == pytest.approx(np.radians(beyond) ** 2, abs=1e-9)
    if degrees != 120.0:
        assert_pushes_downhill(bias, atoms)


@given(seed=st.integers(0, 10**6))
def test_hills_along_two_variables_push_downhill(seed):
    rng = np.random.default_rng(seed)
    hills = Metadynamics((DISTANCE, TORSION), (0.4, 0.5), 0.1, 5, math.inf)
    bias = Bias([hills])
    atoms = structure(seed)
    centre = [v.of(atoms).value for v in hills.variables]
    # A hill beyond the end of the circle still has to be felt.
    bias.hills = np.column_stack([centre + rng.normal(size=(6, 2)), rng.uniform(0.1, 1.0, 6)])
    bias.hills[:3, 1] += 2.0 * np.pi
    assert_pushes_downhill(bias, atoms)


def test_variables_are_those_of_ase_whatever_the_images():
    for seed in range(20):
        atoms = structure(seed)
        first, second, third, fourth = TORSION.atoms
        atoms.positions += np.random.default_rng(seed).integers(-2, 3, (4, 3)) @ atoms.cell.array
        expected = np.radians(atoms.get_dihedral(first, second, third, fourth, mic=True))
        assert TORSION.difference(TORSION.of(atoms).value, expected) == pytest.approx(0, abs=1e-9)
        length = atoms.get_distance(2, 0, mic=True)
        assert DISTANCE.of(atoms).value == pytest.approx(length, abs=1e-9)


def test_variables_without_derivatives_are_refused():
    line = Atoms("H4", positions=np.outer(range(4), [1.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="torsion of atoms"):
        TORSION.of(line)
    line.positions[2] = line.positions[0]
    with pytest.raises(ValueError, match="distance of atoms"):
        DISTANCE.of(line)
    straight = CollectiveVariable("angle", (0, 1, 3)).of(line)
    assert straight.value == pytest.approx(np.pi)
    assert np.abs(straight.gradient).max() == 0.0


def test_tempered_hills_become_lower():
    tempered = Metadynamics((DISTANCE,), (0.1,), 0.05, 1, 900.0)
    hills = np.zeros((0, 2))
    for _ in range(2):
        hills = np.vstack([hills, tempered.hill(np.array([1.0]), hills)])
    assert hills[0].tolist() == [1.0, 0.05]
    assert hills[1, 1] == pytest.approx(0.05 * np.exp(-0.05 / (KELVIN * 900.0)))


class Well:
    """Forces of a double well of the distance between two atoms: a (x^2 - 1)^2, x = (r - 2) / w."""

    work = 0.0
    height, width = 0.12, 0.4

    def begin(self, atoms, step, length):
        return self.at(atoms, step)

    def acting(self, driving):
        return driving

    def at(self, atoms, step):
        vector = atoms.positions[1] - atoms.positions[0]
        length = np.linalg.norm(vector)
        x = (length - 2.0) / self.width
        slope = 4.0 * self.height * x * (x * x - 1.0) / self.width
        push = slope * vector / length
        return Labels(self.height * (x * x - 1.0) ** 2, np.array([push, -push]))

    def diverged(self, before, atoms, driving):
        return False


def motion(bias, *, steps, ensemble="nve", timestep_fs=1.0, every=1):
    """A pair of carbon atoms in a bias."""
    atoms = Atoms("C2", positions=[[0.0, 0.0, 0.0], [1.6, 0.0, 0.0]])
    dynamics = {"ensemble": ensemble, "steps": steps, "temperature_K": 300.0, "bias": bias}
    settings = Dynamics(**dynamics, timestep_fs=timestep_fs, remove_translation=False)
    made = make_ensemble(settings, atoms)
    return SegmentIntegrator(made, timestep_fs=timestep_fs, frame_every=every)


def run(moving, steps):
    done = exhausted(moving.integrate(moving.position, steps, Well(), keep=(0, 0)))
    assert done.reason is None
    return done.frames


HILLS = {
    "kind": "metadynamics",
    "along": [{"distance": [0, 1], "width_A": 0.1}],
    "height_meV": 10.0,
    "every_fs": 40.0,
}
SPRING = {"kind": "restraint", "distance": [0, 1], "at_A": 2.5, "constant_eV_A2": 1.0}
WALLS = {"kind": "walls", "distance": [0, 1], "below_A": 2.7, "constant_eV_A2": 20.0}


def test_the_energy_account_is_conserved_to_second_order_in_the_timestep():
    scatter = []
    for timestep_fs in (1.0, 2.0):
        steps = round(4000 / timestep_fs)
        frames = run(motion([SPRING, WALLS, HILLS], steps=steps, timestep_fs=timestep_fs), steps)
        conserved = np.array([frame.conserved_energy for frame in frames])
        work = np.array([frame.work for frame in frames])
        scatter.append(conserved.std())
        assert conserved.std() < 0.01 * np.ptp(work)
    assert scatter[1] / scatter[0] == pytest.approx(4.0, rel=0.4)


def test_segments_of_any_length_are_the_same_to_the_bit():
    whole, pieces = (motion([HILLS], steps=300, ensemble="langevin") for _ in range(2))
    run(whole, 300)
    for length in (1, 39, 1, 59, 150, 50):
        start = pieces.position
        run(pieces, length)  # a prediction, which is repeated
        pieces.go_to(start)
        run(pieces, length)
    one, other = whole.position.dynamics, pieces.position.dynamics
    assert one.positions.tobytes() == other.positions.tobytes()
    assert one.hills.tobytes() == other.hills.tobytes()
    assert len(one.hills) == 7


def free_energies(moving, frames, temperature_K=300.0):
    """The free energy of the frames, the exact one of their bins, and kT, eV."""
    variable, bias = CollectiveVariable("distance", (0, 1)), moving._ensemble.bias
    atoms = [Atoms("C2", positions=frame.positions) for frame in frames]
    values = np.array([variable.of(one).value for one in atoms])
    steps = np.array([frame.step for frame in frames])
    energies = bias.energies_of(atoms, steps, temperature_K)
    edges = np.linspace(1.5, 2.5, 21)
    found = free_energy(values, energies, edges, temperature_K=temperature_K)
    kT, ends = KELVIN * temperature_K, np.linspace(1.5, 2.5, 401)
    r = 0.5 * (ends[1:] + ends[:-1])
    well = Well.height * (((r - 2.0) / Well.width) ** 2 - 1.0) ** 2 - 2.0 * kT * np.log(r)
    exact = -kT * np.log(np.exp(-well / kT).reshape(20, -1).mean(axis=1))
    return found, exact - exact.min(), kT


@pytest.mark.full
@pytest.mark.slow
def test_metadynamics_crosses_a_barrier_and_gives_the_free_energy(long):
    """A barrier of 4.6 kT between two wells, whose free energy is known."""
    steps = 400_000 if long else 60_000
    walls = {"kind": "walls", "distance": [0, 1], "above_A": 1.2, "below_A": 2.8}
    bias = [HILLS | {"bias_factor": 6.0}, walls | {"constant_eV_A2": 50.0}]
    moving = motion(bias, steps=steps, ensemble="langevin", timestep_fs=2.0, every=10)
    frames = run(moving, steps)
    found, exact, kT = free_energies(moving, frames[len(frames) // 10 :])
    off = found.mean - exact
    off -= off.mean()
    assert np.isfinite(found.error).all()
    # By hand, of forty seeds: at most 0.05 (long) and 0.21 kT, 1.6 and 2.2 standard errors.
    assert np.sqrt(np.mean(off**2)) < (0.08 if long else 0.3) * kT
    assert np.sqrt(np.mean((off / found.error) ** 2)) < 2.5


def test_offsets_of_metadynamics_are_those_of_their_integrals():
    """Against sums over a fine grid; of hills of one height the lower integral is constant."""
    rng, kT = np.random.default_rng(3), KELVIN * 300.0
    hills = np.column_stack([rng.uniform(1.0, 2.0, 30), rng.uniform(0.0, 0.05, 30)])
    values = np.linspace(hills[:, 0].min(), hills[:, 0].max(), 2001)
    for tempering_K in (1500.0, np.inf):
        added = Metadynamics((DISTANCE,), (0.1,), 0.05, 20, tempering_K)
        found = added.offsets(hills, 300.0)
        assert found.shape == (31,)
        assert found[0] == 0.0
        for n in (1, 30):
            energies = np.array([added.at(np.array([r]), hills[:n])[0] for r in values])
            tempered = np.exp(energies / (KELVIN * tempering_K))
            exact = kT * np.log(np.mean(np.exp(energies / kT) * tempered) / np.mean(tempered))
            assert found[n] == pytest.approx(exact, rel=0.02)


def test_offsets_of_two_variables_and_of_a_torsion():
    hills = np.array([[3.1, 1.5, 0.03], [-3.1, 1.6, 0.02]])
    added = Metadynamics((TORSION, DISTANCE), (0.2, 0.1), 0.05, 20, 1500.0)
    shifted = hills.copy()  # by 3.1 around the circle
    shifted[:, 0] = [0.0, 2.0 * np.pi - 6.2]
    np.testing.assert_allclose(
        added.offsets(hills, 300.0), added.offsets(shifted, 300.0), rtol=0.02
    )
    assert added.offsets(hills[:0], 300.0).tolist() == [0.0]


def test_hills_act_from_the_step_after_the_one_that_added_them():
    moving = motion([HILLS], steps=130)
    run(moving, 130)
    assert len(moving._ensemble.bias.hills) == 3  # after steps 40, 80 and 120
    growing = Metadynamics((DISTANCE,), (0.1,), 0.01, 40, 9.0 * 300.0)
    assert growing.hills_before(np.array([0, 1, 40, 41, 80, 81])).tolist() == [0, 0, 0, 1, 1, 2]
    atoms, bias = moving._ensemble.atoms, moving._ensemble.bias
    ends = bias.energies_of([atoms, atoms], np.array([40, 81]), 300.0)
    assert ends[0] == 0.0
    offset = growing.offsets(bias.hills, 300.0)[2]
    assert ends[1] == pytest.approx(bias.energy(atoms, 2) - offset, abs=1e-15)


@pytest.mark.slow
def test_a_restraint_has_the_distribution_of_its_spring(long):
    steps = 200_000 if long else 20_000
    stiff = SPRING | {"at_A": 2.0, "constant_eV_A2": 12.0}
    moving = motion([stiff], steps=steps, ensemble="langevin", timestep_fs=2.0, every=10)
    frames = run(moving, steps)
    found, exact, kT = free_energies(moving, frames[100:])  # from rest at another distance
    seen = np.isfinite(found.mean) & (found.error < 0.2 * kT)
    assert seen.sum() >= 3  # around the top of the barrier, which is rarely visited without it
    off = (found.mean - exact)[seen]
    assert np.abs(off - off.mean()).max() < 0.4 * kT

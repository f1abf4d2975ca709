"""Densities learned point by point."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.spatial.transform import Rotation

from otf.electrons.density.local_functions import LocalFunctions
from otf.electrons.density.pointwise import DensityModel, PointDescription, describe_points
from otf.electrons.density.quadrature import quadrature
from otf.electrons.density.samples import relative_errors, sample_of_grid, sample_of_points
from otf.electrons.environment import Reach
from otf.orbitals.grids import Grid, grid_of

SMALL = PointDescription(LocalFunctions((10, 5, 4), 4.0), 5, Reach(3, 0.4, 3.5), 3)


def cloud(points: np.ndarray, place: np.ndarray, width: float) -> np.ndarray:
    """Gaussian density of one electron."""
    return (width / np.pi) ** 1.5 * np.exp(-width * ((points - place) ** 2).sum(axis=1))


def clouds(atoms: Atoms, points: np.ndarray) -> np.ndarray:
    """Density of atoms with charge moved into their bonds, more for shorter bonds."""
    places = atoms.positions
    found = sum(z * cloud(points, p, 3.0) for z, p in zip(atoms.numbers, places, strict=True))
    for i, one in enumerate(places):
        for other in places[:i]:
            shared = np.exp(-(((one - other) ** 2).sum()))
            found = found + shared * cloud(points, 0.5 * (one + other), 2.0)
            found = found - 0.5 * shared * (cloud(points, one, 3.0) + cloud(points, other, 3.0))
    return np.asarray(found)


def waters(count: int, seed: int) -> list[Atoms]:
    found = [molecule("H2O") for _ in range(count)]
    for k, atoms in enumerate(found):
        atoms.rattle(0.05, seed=seed + k)
    return found


@pytest.fixture(scope="module")
def learned() -> DensityModel:
    model = DensityModel([1, 8], SMALL)
    for k, atoms in enumerate(waters(25, 0)):
        points, volumes = quadrature(atoms)
        values = clouds(atoms, points)
        model.learn(
            atoms,
            sample_of_points(atoms, points, volumes, values, reach=4.0, count=1200, seed=k),
        )
    return model


def test_sums_over_functions_are_those_of_the_slow_way():
    rng = np.random.default_rng(1)
    functions = LocalFunctions((6, 4, 3, 1), 3.0)
    points, centres = rng.uniform(0, 4, (200, 3)), rng.uniform(0, 4, (3, 3))
    points[0] = centres[0]  # at a nucleus
    which = rng.normal(size=(3, functions.size))
    found = np.zeros(200)
    functions.add_to(found, points, centres, which)
    slow = np.zeros(200)
    for centre, own in zip(centres, which, strict=True):
        values = functions.values(points - centre)
        slow += np.concatenate([v.reshape(200, -1) for v in values], axis=1) @ own
    np.testing.assert_allclose(found, slow, atol=1e-11)
    assert np.ptp(found) > 0.1


def test_integrals_of_the_round_functions():
    functions = LocalFunctions((5, 2), 3.5)
    for n, integral in enumerate(functions.integrals()):

        def shell(r: float, n: int = n) -> float:
            value = functions.values(np.array([[0.0, 0.0, r]]))[0][0, n, 0]
            return float(4.0 * np.pi * r * r * value)

        assert integral == pytest.approx(quad(shell, 0.0, 3.5)[0], rel=1e-8)


def test_functions_end_smoothly():
    functions = LocalFunctions((8, 4), 3.0)
    near = np.array([[0.0, 0.0, 3.0 - x] for x in (1e-2, 1e-3, -1e-3)])
    sizes = np.abs(functions.values(near)[0]).max(axis=(1, 2))
    assert sizes[0] < 1e-3
    assert sizes[1] < 2e-3 * sizes[0]  # like the cube of the distance
    assert sizes[2] == 0.0


def test_what_depends_on_the_surroundings_is_learned(learned):
    errors, plain = [], []
    for atoms in waters(5, 100):
        points, volumes = quadrature(atoms)
        truth = clouds(atoms, points)
        density = learned.density(atoms)
        found = density.at(points)
        errors.append(relative_errors(found, truth, volumes)[0])
        assert found.min() >= 0.0
        assert volumes @ found == pytest.approx(volumes @ truth, rel=5e-3)
        assert abs(density.off) < 0.01
        pairs = zip(atoms.numbers, atoms.positions, strict=True)
        bare = sum(z * cloud(points, place, 3.0) for z, place in pairs)
        plain.append(relative_errors(bare, truth, volumes)[0])
    assert np.mean(errors) < 0.008
    assert np.mean(plain) > 5 * np.mean(errors)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_density_turns_with_its_structure(learned, seed, mirrored):
    rng = np.random.default_rng(seed)
    atoms = waters(1, seed % 1000)[0]
    turn = Rotation.random(random_state=seed % 2**31).as_matrix() * (-1.0 if mirrored else 1.0)
    shift, order = rng.normal(size=3), rng.permutation(3)
    points = atoms.positions.mean(axis=0) + rng.normal(size=(50, 3))
    other = Atoms(atoms.numbers[order], (atoms.positions @ turn.T + shift)[order])
    found = learned.density(other).at(points @ turn.T + shift)
    np.testing.assert_allclose(found, learned.density(atoms).at(points), atol=1e-9)


def test_electrons_are_those_of_the_composition(learned):
    one = waters(1, 5)[0]
    two = one.copy()
    two.translate([50.0, 0.0, 0.0])
    both = learned.density(one + two)
    points = quadrature(one)[0]
    single = learned.density(one).at(points)
    np.testing.assert_allclose(both.at(points), single, atol=1e-9)  # beyond all cutoffs
    with pytest.raises(ValueError, match=r"\[6\] was learned"):
        learned.density(molecule("CH4"))
    with pytest.raises(ValueError, match="was learned"):
        DensityModel([1, 8], SMALL).density(one)


def test_crystals_are_learned_from_grids_and_are_periodic():
    model = DensityModel([14], SMALL)

    def known(seed: int) -> tuple[Atoms, Grid, np.ndarray]:
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.05, seed=seed)
        images = atoms.repeat((3, 3, 3))
        images.positions -= atoms.cell.array.sum(axis=0)
        grid = grid_of(atoms, 0.35)

        def values(points: np.ndarray) -> np.ndarray:
            away = points[:, None] - images.positions
            return np.exp(-1.5 * (away**2).sum(axis=2)).sum(axis=1)

        return atoms, grid, grid.sampled(values)

    for seed in range(6):
        atoms, grid, values = known(seed)
        model.learn(atoms, sample_of_grid(atoms, grid, values, reach=4.0, count=900, seed=seed))
    atoms, grid, values = known(50)
    density = model.density(atoms)
    found = grid.sampled(density.at, threads=2)
    np.testing.assert_array_equal(found, grid.sampled(density.at))
    assert relative_errors(found, values, grid.volume)[0] < 0.01
    assert found.sum() * grid.volume == pytest.approx(values.sum() * grid.volume, rel=1e-3)
    points = np.random.default_rng(1).uniform(0, 5, (40, 3))
    moved = density.at(points + np.array([1, -2, 1]) @ atoms.cell.array)
    np.testing.assert_allclose(moved, density.at(points), atol=1e-10)
    large = atoms.repeat((2, 1, 1))
    np.testing.assert_allclose(model.density(large).at(points), density.at(points), atol=1e-9)


def test_a_sample_stands_for_the_whole():
    atoms = waters(1, 3)[0]
    points, volumes = quadrature(atoms)
    values = clouds(atoms, points)
    sample = sample_of_points(atoms, points, volumes, values, reach=4.0, count=20000, seed=1)
    near = np.linalg.norm(points[:, None] - atoms.positions, axis=2).min(axis=1) < 4.0
    for of in (lambda v: v, lambda v: 0.0 * v + 1.0):  # integrals of the density and of the volume
        whole = volumes[near] @ (of(values[near]) / (values[near] + 0.067))
        assert sample.weights @ of(sample.values) == pytest.approx(whole, rel=0.02)
    assert sample.electrons == 10.0
    given = {"reach": 4.0, "count": 10, "seed": 1}
    coarse = sample_of_points(atoms, points, 1.03 * volumes, values, **given)
    assert coarse.electrons is None  # 10.3 is no valid electron count
    assert sample_of_points(atoms, points, volumes, values, electrons=7.5, **given).electrons == 7.5
    lowest = np.linalg.norm(sample.points[:, None] - atoms.positions, axis=2).min(axis=1)
    assert lowest.max() > 3.0  # includes far points
    assert lowest.max() < 4.0


def test_memory_of_a_solve_is_bounded():
    sizes = []
    for n in range(1, 7):
        model = DensityModel(range(1, n + 1), describe_points(n, 1000))
        sizes.append(8 * model._equations.gram.size)
    assert max(sizes) < 2.4e8
    assert describe_points(2, 100).budget > describe_points(5, 100).budget
    assert describe_points(2, 100).budget > describe_points(2, 20).budget


def hollow(atoms: Atoms, grid: Grid) -> np.ndarray:
    """Density that nearly vanishes at the nuclei, as by a pseudopotential, of four atoms."""
    points = grid.origin + np.indices(grid.shape).reshape(3, -1).T @ grid.steps
    found = np.full(len(points), 0.15)
    for place in atoms.positions:
        apart = points - place
        apart -= np.round(apart @ atoms.cell.reciprocal().T) @ atoms.cell.array
        found *= 1.0 - 0.99 * np.exp(-3.0 * (apart**2).sum(axis=1))
    return found.reshape(grid.shape)


def test_the_hole_at_a_pseudo_nucleus_is_sampled():
    rng = np.random.default_rng(3)
    model = DensityModel([13], describe_points(1, 6))

    def crystal() -> tuple[Atoms, Grid, np.ndarray]:
        atoms = bulk("Al", cubic=True)
        atoms.positions += rng.normal(scale=0.08, size=(4, 3))
        grid = grid_of(atoms, 0.18)
        return atoms, grid, hollow(atoms, grid)

    for seed in range(6):
        atoms, grid, values = crystal()
        model.learn(atoms, sample_of_grid(atoms, grid, values, reach=3.5, count=2500, seed=seed))
    atoms, grid, values = crystal()
    centres = model.density(atoms).at(atoms.positions)
    assert centres.max() < 0.1 * values.max()  # the truth is 0.01
    found = grid.sampled(model.density(atoms).at)
    l1, l2 = relative_errors(found, values, grid.volume)
    assert l2 < 3.0 * l1
    assert l2 < 0.02

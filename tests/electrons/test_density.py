"""The electron density of a density matrix in real space, and its integrals."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from otf.electrons.density.quadrature import quadrature
from otf.electrons.density.through_matrix import DensityOfMatrix, OrbitalValues
from otf.electrons.environment import neighbours
from otf.orbitals.block_matrices import BlockMatrix, Pairs, RadialFunctions
from otf.orbitals.grids import grid_of

SHELLS = {14: (0, 1)}


def functions() -> dict[int, RadialFunctions]:
    """One Gaussian s and one p shell, with a smooth cutoff."""
    r = np.linspace(0.0, 3.0, 800)
    fade = (1.0 - (r / 3.0) ** 2) ** 2
    shapes = [np.exp(-(r**2)) * fade, r * np.exp(-(r**2)) * fade]
    norms = [np.sqrt(np.trapezoid((f * r) ** 2, r)) for f in shapes]
    return {14: RadialFunctions(r, np.array([f / n for f, n in zip(shapes, norms)]))}


def crystal(seed: int) -> tuple[Atoms, BlockMatrix]:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=seed)
    first, second, shifts = neighbours(atoms, 4.0)
    n = np.arange(len(atoms))
    pairs = Pairs(
        np.concatenate([n, first]),
        np.concatenate([n, second]),
        np.concatenate([np.zeros((len(n), 3), dtype=int), shifts]),
    )
    values = np.random.default_rng(seed).normal(size=16 * len(pairs.first))
    return atoms, BlockMatrix(atoms.numbers, SHELLS, pairs, values)


def test_a_crystals_density_is_periodic_and_a_sum_over_its_blocks():
    atoms, matrix = crystal(1)
    orbitals = OrbitalValues(SHELLS, functions())
    density = DensityOfMatrix(atoms, matrix, orbitals)
    points = np.random.default_rng(2).uniform(0, 3, size=(30, 3))
    found = density.at(points)
    moved = density.at(points + np.array([2, -1, 3]) @ atoms.cell.array)
    np.testing.assert_allclose(moved, found, rtol=1e-9, atol=1e-12)
    slow = np.zeros(len(points))
    cells = np.stack(np.meshgrid(*3 * [np.arange(-2, 4)], indexing="ij"), axis=-1).reshape(-1, 3)
    for cell in cells:
        offset = cell @ atoms.cell.array
        values = [orbitals.at(points - p - offset, 14) for p in atoms.positions]
        for k, (i, j) in enumerate(zip(matrix.pairs.first, matrix.pairs.second)):
            there = atoms.positions[j] + offset + matrix.pairs.shifts[k] @ atoms.cell.array
            block = matrix.values[16 * k : 16 * k + 16].reshape(4, 4)
            other = orbitals.at(points - there, 14)
            slow += np.einsum("pa,ab,pb->p", values[i], block, other)
    np.testing.assert_allclose(found, slow, rtol=1e-9, atol=1e-9)


def test_orbitals_on_a_grid_are_normalised():
    atoms = Atoms("Si", [[0.3, 0.1, -0.2]])
    grid = grid_of(atoms, 0.2)
    values = OrbitalValues(SHELLS, functions())
    points = np.concatenate([grid.points(part) for part in grid.parts()])
    assert len(points) == np.prod(grid.shape)
    seen = values.at(points - atoms.positions[0], 14)
    np.testing.assert_allclose(seen.T @ seen * grid.volume, np.eye(4), atol=1e-5)


def test_nothing_reaches_far():
    atoms, matrix = Atoms("Si", [[0.0, 0.0, 0.0]]), np.eye(4)
    blocks = BlockMatrix.of_dense(atoms.numbers, SHELLS, matrix)
    density = DensityOfMatrix(atoms, blocks, OrbitalValues(SHELLS, functions()))
    assert density.at(np.array([[0.0, 0.0, 9.0]])).tolist() == [0.0]


def test_blocks_tile_the_cell():
    atoms = bulk("Si")
    grid = grid_of(atoms, 0.3)
    assert grid.volume * np.prod(grid.shape) == pytest.approx(atoms.get_volume())
    seen = np.zeros(grid.shape, dtype=int)
    for part in grid.parts():
        points = grid.points(part)
        seen[part] += 1
        assert len(points) == seen[part].size
    assert (seen == 1).all()
    atoms.cell[:] = 0.0
    with pytest.raises(ValueError, match="no volume"):
        grid_of(atoms, 0.3)


def test_steep_and_smooth_functions_are_integrated():
    atoms = molecule("CH3OH")
    points, weights = quadrature(atoms)
    for exponent, tolerance in ((0.3, 1e-3), (2.0, 1e-4), (2000.0, 1e-6)):
        for centre in atoms.positions:
            square = ((points - centre) ** 2).sum(axis=1)
            integral = weights @ np.exp(-exponent * square)
            assert integral == pytest.approx((np.pi / exponent) ** 1.5, rel=tolerance)

r"""The electron density from a density matrix.

.. math:: \rho(r) = \sum_{ij,R} \phi_i(r)\, P_{ij,R}\, \phi_j(r - R)

Points are processed in chunks, each with the atoms within reach only, so the cost is linear.
"""

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from scipy.interpolate import CubicSpline

from otf.arrays import Floats, Ints
from otf.electrons.harmonics import harmonics
from otf.orbitals.block_matrices import BlockMatrix, RadialFunctions, Shells, width
from otf.orbitals.grids import Grid
from otf.orbitals.periodic_images import Images, images_near

_CHUNK = 2048
_TINY = 1e-12


class OrbitalValues:
    """Values of the orbitals of each element at any point.

    Parameters
    ----------
    shells
        Degrees of the shells of each element.
    functions
        Radial functions of each element.
    """

    def __init__(self, shells: Shells, functions: Mapping[int, RadialFunctions]) -> None:
        self._shells = shells
        self._splines = {
            z: CubicSpline(f.distances, f.values.T, bc_type="natural", extrapolate=False)
            for z, f in functions.items()
        }
        self.reach = {z: f.reach for z, f in functions.items()}

    def at(self, vectors: Floats, number: int) -> Floats:
        """Values (P, orbitals), Angstrom**-1.5, at points (P, 3) relative to an atom."""
        degrees = self._shells[number]
        distances = np.linalg.norm(vectors, axis=1)
        radial = np.nan_to_num(self._splines[number](distances))
        directions = vectors / np.maximum(distances, _TINY)[:, None]
        directions[distances < _TINY] = (0.0, 0.0, 1.0)
        angular = harmonics(directions, max(degrees))
        return np.concatenate(
            [
                radial[:, shell, None] * angular[:, degree * degree : (degree + 1) ** 2]
                for shell, degree in enumerate(degrees)
            ],
            axis=1,
        )


class DensityOfMatrix:
    """Density of one structure from its density matrix.

    Parameters
    ----------
    atoms, density
        The structure and its density matrix.
    orbitals
        Orbitals of its elements.
    """

    def __init__(self, atoms: Atoms, density: BlockMatrix, orbitals: OrbitalValues) -> None:
        self._atoms = atoms
        self._density = density
        self._orbitals = orbitals
        self._reach = np.array([orbitals.reach[int(z)] for z in atoms.numbers])
        shifts = density.pairs.shifts
        self._span = 1 + 2 * int(np.abs(shifts).max(initial=0))
        keys = self._keys(density.pairs.first, density.pairs.second, shifts)
        self._order = np.argsort(keys)
        self._sorted = keys[self._order]

    def at(self, points: Floats) -> Floats:
        """Electrons per cubic Angstrom at points (P, 3), which should be near each other."""
        parts = [self._of_chunk(points[k : k + _CHUNK]) for k in range(0, len(points), _CHUNK)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _of_chunk(self, points: Floats) -> Floats:
        near = images_near(self._atoms, self._reach, points)
        if not len(near.atoms):
            return np.zeros(len(points))
        numbers = self._density.numbers[near.atoms]
        values = np.concatenate(
            [
                self._orbitals.at(points - position, int(z))
                for z, position in zip(numbers, near.positions, strict=True)
            ],
            axis=1,
        )
        return np.asarray(((values @ self._between(near)) * values).sum(axis=1))

    def _between(self, near: Images) -> Floats:
        """Dense density matrix between the orbitals of these images."""
        density, n = self._density, len(near.atoms)
        widths = density.widths[near.atoms]
        starts = np.concatenate([[0], np.cumsum(widths)])
        out = np.zeros((starts[-1], starts[-1]))
        a, b = np.divmod(np.arange(n * n), n)
        shifts = near.shifts[b] - near.shifts[a]
        known = (np.abs(shifts) <= self._span // 2).all(axis=1)
        a, b, shifts = a[known], b[known], shifts[known]
        keys = self._keys(near.atoms[a], near.atoms[b], shifts)
        found = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        there = self._sorted[found] == keys
        a, b, chosen = a[there], b[there], self._order[found[there]]
        kinds = density.numbers[near.atoms]
        for one in np.unique(kinds):
            for other in np.unique(kinds):
                mine = np.flatnonzero((kinds[a] == one) & (kinds[b] == other))
                if len(mine):
                    rows = starts[a[mine], None] + np.arange(width(density.shells[int(one)]))
                    columns = starts[b[mine], None] + np.arange(width(density.shells[int(other)]))
                    out[rows[:, :, None], columns[:, None, :]] = density.blocks(chosen[mine])
        return out

    def _keys(self, first: Ints, second: Ints, shifts: Ints) -> Ints:
        """Unique integer key of each pair."""
        half, span, n = self._span // 2, self._span, len(self._density.numbers)
        cells = ((shifts[:, 0] + half) * span + shifts[:, 1] + half) * span + shifts[:, 2] + half
        return np.asarray((first * n + second) * span**3 + cells)


def density_on(density: BlockMatrix, orbitals: OrbitalValues, atoms: Atoms, grid: Grid) -> Floats:
    """Electron density of a density matrix on a grid, per cubic Angstrom."""
    return grid.sampled(DensityOfMatrix(atoms, density, orbitals).at)

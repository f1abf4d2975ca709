r"""Overlap matrices computed from the radial functions of the orbitals.

With the bond along z only orbitals of equal m overlap, as functions of the bond length alone:

.. math:: S_{ab,m}(R) = (1 + \delta_{m0})\,\pi \int \phi_{am}(r)\, \phi_{bm}(r - R e_z)\,
   \rho\, d\rho\, dz

in the half plane in which the cosine of m > 0 is one. The plane is partitioned between the two
atoms as by Becke (see :mod:`otf.electrons.density.quadrature`), and each part is integrated by
Gauss-Chebyshev quadrature along the radius and Gauss-Legendre quadrature along the angle. Source:
Slater and Koster, Phys. Rev. 94, 1498 (1954).
"""

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from numpy.polynomial.legendre import leggauss
from scipy.interpolate import CubicSpline

from otf.arrays import Floats, Ints
from otf.electrons.bond_features import frames, turned
from otf.electrons.density.quadrature import radial, shares
from otf.electrons.density.through_matrix import OrbitalValues
from otf.electrons.environment import vectors_of
from otf.electrons.harmonics import rotation_matrices
from otf.orbitals.block_matrices import BlockMatrix, Pairs, RadialFunctions, Shells, width

_RADII = 80
_ANGLES = 40
_STEP_A = 0.05
_NEAREST_A = 0.4
_SMOOTH_A = 3.0  # beyond this distance twice the step suffices
_FARTHEST_A = 12.0


class Overlaps:
    """Overlap matrices of any structure.

    Parameters
    ----------
    shells, functions
        Shells and radial functions of each element.
    """

    def __init__(self, shells: Shells, functions: Mapping[int, RadialFunctions]) -> None:
        self._shells = shells
        self._functions = functions
        self._values = OrbitalValues(shells, functions)
        self._tables: dict[tuple[int, int], CubicSpline] = {}

    def of(self, atoms: Atoms, pairs: Pairs) -> BlockMatrix:
        """The overlap matrix of a structure on these pairs."""
        numbers = np.asarray(atoms.numbers, dtype=np.int64)
        blank = BlockMatrix(numbers, self._shells, pairs, np.empty(0))
        total = int((blank.widths[pairs.first] * blank.widths[pairs.second]).sum())
        values, is_site = np.zeros(total), pairs.are_sites
        vectors = vectors_of(atoms, pairs.first, pairs.second, pairs.shifts)
        lengths = np.linalg.norm(vectors, axis=1)
        kinds = numbers[pairs.first], numbers[pairs.second]
        for one in np.unique(numbers).tolist():
            sites = np.flatnonzero(is_site & (kinds[0] == one))
            if len(sites):
                values[blank.positions_of(sites)] = self._on_site(one)
            for other in np.unique(numbers).tolist():
                reach = min(self._values.reach[one] + self._values.reach[other], _FARTHEST_A)
                mine = ~is_site & (kinds[0] == one) & (kinds[1] == other) & (lengths < reach)
                chosen = np.flatnonzero(mine)
                if len(chosen):
                    blocks = self._between(one, other, vectors[chosen])
                    values[blank.positions_of(chosen)] = blocks
        return blank.with_values(values)

    def _on_site(self, number: int) -> Floats:
        degrees, found = self._shells[number], self._functions[number]
        out = np.zeros((width(degrees), width(degrees)))
        starts = np.cumsum([0, *(2 * degree + 1 for degree in degrees)])
        products = found.values[:, None, :] * found.values[None, :, :] * found.distances**2
        radial_overlaps = CubicSpline(found.distances, products, axis=2).integrate(0.0, found.reach)
        for a, l1 in enumerate(degrees):
            for b, l2 in enumerate(degrees):
                if l1 == l2:
                    block = radial_overlaps[a, b] * np.eye(2 * l1 + 1)
                    rows, columns = (slice(starts[k], starts[k] + len(block)) for k in (a, b))
                    out[rows, columns] = block
        return out

    def _between(self, one: int, other: int, vectors: Floats) -> Floats:
        """Blocks (B, orbitals, orbitals) of bonds (B, 3)."""
        if one > other:
            return self._between(other, one, -vectors).transpose(0, 2, 1)
        if (one, other) not in self._tables:
            self._tables[one, other] = self._table(one, other)
        along_z = self._tables[one, other](np.linalg.norm(vectors, axis=1))
        ends = self._shells[one], self._shells[other]
        highest = max(max(degrees) for degrees in ends)
        return turned(
            along_z, rotation_matrices(frames(vectors), highest), ends[0], ends[1], back=True
        )

    def _table(self, one: int, other: int) -> CubicSpline:
        """Blocks of bonds along z as functions of the bond length."""
        reach = min(self._values.reach[one] + self._values.reach[other], _FARTHEST_A)
        far = np.arange(_SMOOTH_A, max(reach, _SMOOTH_A) + 2 * _STEP_A, 2 * _STEP_A)
        lengths = np.concatenate([np.arange(_NEAREST_A, _SMOOTH_A - 1e-9, _STEP_A), far])
        return CubicSpline(lengths, np.array([self._along_z(one, other, r) for r in lengths]))

    def _along_z(self, one: int, other: int, length: float) -> Floats:
        radii, weights = radial(_RADII)
        cosines, angular = leggauss(_ANGLES)
        ball = np.stack(
            [
                np.outer(radii, np.sqrt(1.0 - cosines**2)).ravel(),
                np.zeros(_RADII * _ANGLES),
                np.outer(radii, cosines).ravel(),
            ],
            axis=1,
        )
        of_ball = np.outer(weights, angular).ravel()
        centres = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, length]])
        m1, m2 = (_orders(self._shells[z]) for z in (one, other))
        out = np.zeros((len(m1), len(m2)))
        for k, centre in enumerate(centres):
            points = centre + ball
            share = of_ball * shares(points, centres)[:, k]
            near = np.flatnonzero(
                (np.linalg.norm(points, axis=1) < self._values.reach[one])
                & (np.linalg.norm(points - centres[1], axis=1) < self._values.reach[other])
            )
            here = self._values.at(points[near], one)
            there = self._values.at(points[near] - centres[1], other)
            out += here.T @ (share[near, None] * there)
        out *= np.where(m1 == 0, 2.0 * np.pi, np.pi)[:, None]
        out[m1[:, None] != m2] = 0.0
        # Sines vanish in the plane; their overlaps equal those of the cosines.
        for m in range(1, int(m1.max(initial=0)) + 1):
            out[np.ix_(m1 == -m, m2 == -m)] = out[np.ix_(m1 == m, m2 == m)]
        return out


def _orders(degrees: tuple[int, ...]) -> Ints:
    """Order m of each orbital."""
    return np.concatenate([np.arange(-degree, degree + 1) for degree in degrees])

r"""Atom-centred basis functions for electron densities.

.. math:: \phi_{nlm}(r) = y^l\, R_n(y)\, Y_{lm}(\hat r), \qquad
          y = \frac{\ln(1 + r/a)}{\ln(1 + r_c/a)}

with the orthonormal polynomials R_n of :mod:`otf.kernels.radial` on y in [0, 1], which is stretched
near the nucleus, where a density has a cusp; all functions vanish smoothly at the cutoff.

============================  ================================
formula                       code
============================  ================================
phi_nlm at points             :meth:`LocalFunctions.values`
sum_nlm c_nlm phi_nlm         :meth:`LocalFunctions.add_to`
the integral of phi_n00       :meth:`LocalFunctions.integrals`
============================  ================================
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from otf.arrays import Floats
from otf.electrons.harmonics import harmonics
from otf.kernels.harmonics import normalisation, solid_harmonics
from otf.kernels.jit import kernel
from otf.kernels.radial import radial_values, recursion_table

_STRETCH_A = 0.3
_TINY_A = 1e-9
_QUADRATURE = 400


@dataclass(frozen=True)
class LocalFunctions:
    """Basis functions centred on an atom.

    Attributes
    ----------
    counts
        Number of radial polynomials for each degree l = 0, 1, …, non-increasing.
    cutoff
        Angstrom.
    """

    counts: tuple[int, ...]
    cutoff: float

    @cached_property
    def size(self) -> int:
        """Number of functions, ordered by degree, then n, then m."""
        return sum(n * (2 * degree + 1) for degree, n in enumerate(self.counts))

    def radial(self, distances: Floats) -> tuple[Floats, Floats]:
        """Stretched distances y (P,), and R_n(y) (P, n), zero from the cutoff on."""
        y = np.minimum(np.log1p(distances / _STRETCH_A) / self._scale, 1.0)
        values = np.empty((len(y), self.counts[0]))
        _radial(np.ascontiguousarray(y), recursion_table(self.counts[0]), values)
        return y, values

    def values(self, vectors: Floats) -> list[Floats]:
        """Values (P, n, 2l + 1) for each degree, at points (P, 3) relative to the atom."""
        distances = np.linalg.norm(vectors, axis=1)
        y, radial = self.radial(distances)
        directions = vectors / np.maximum(distances, _TINY_A)[:, None]
        angular = harmonics(directions, len(self.counts) - 1)
        return [
            (y[:, None] ** degree * radial[:, :n])[:, :, None]
            * angular[:, None, degree * degree : (degree + 1) ** 2]
            for degree, n in enumerate(self.counts)
        ]

    def add_to(self, density: Floats, points: Floats, centres: Floats, which: Floats) -> None:
        """Add the expansions of some atoms to a density (P,) at points (P, 3).

        Parameters
        ----------
        centres
            (I, 3) positions of the atoms, Angstrom.
        which
            (I, size) coefficients.
        """
        degrees = len(self.counts) - 1
        _add(
            density, np.ascontiguousarray(points), np.ascontiguousarray(centres),
            np.ascontiguousarray(which), np.array(self.counts), self.cutoff, self._scale,
            recursion_table(self.counts[0]), normalisation(degrees),
        )  # fmt: skip

    def integrals(self) -> Floats:
        """(n,) integrals of the functions of degree 0, cubic Angstrom."""
        nodes, weights = np.polynomial.legendre.leggauss(_QUADRATURE)
        y = 0.5 * (nodes + 1.0)
        distances = _STRETCH_A * np.expm1(self._scale * y)
        slopes = self._scale * (distances + _STRETCH_A)
        measure = 0.5 * weights * slopes * distances**2
        return np.asarray(np.sqrt(4.0 * np.pi) * measure @ self.radial(distances)[1])

    @property
    def _scale(self) -> float:
        return float(np.log1p(self.cutoff / _STRETCH_A))


@kernel
def _radial(y: Floats, table: Floats, out: Floats) -> None:
    slope = np.empty(out.shape[1])
    for i in range(len(y)):
        radial_values(y[i], 0.0, 1.0, 0.0, table, out[i], slope)


@kernel
def _add(  # noqa: PLR0913, PLR0917 -- a kernel takes bare arrays
    density: Floats, points: Floats, centres: Floats, coefficients: Floats, counts: Floats,
    cutoff: float, scale: float, table: Floats, norm: Floats,
) -> None:  # fmt: skip
    n_max, degrees = table.shape[0], norm.shape[0]
    radial, slope = np.empty(n_max), np.empty(n_max)
    angular, gradient = np.empty(degrees * degrees), np.empty((degrees * degrees, 3))
    scratch = np.zeros((degrees + 1, degrees + 1))
    for i in range(len(centres)):
        for p in range(len(points)):
            x = points[p, 0] - centres[i, 0]
            y = points[p, 1] - centres[i, 1]
            z = points[p, 2] - centres[i, 2]
            r = np.sqrt(x * x + y * y + z * z)
            if r >= cutoff:
                continue
            stretched = np.log1p(r / _STRETCH_A) / scale
            radial_values(stretched, 0.0, 1.0, 0.0, table, radial, slope)
            inverse = 1.0 / max(r, _TINY_A)
            solid_harmonics(x * inverse, y * inverse, z * inverse, norm, scratch, angular, gradient)
            total, power, at = 0.0, 1.0, 0
            for degree in range(degrees):
                of_degree = 0.0
                for n in range(counts[degree]):
                    of_radial = 0.0
                    for m in range(degree * degree, (degree + 1) * (degree + 1)):
                        of_radial += coefficients[i, at] * angular[m]
                        at += 1
                    of_degree += of_radial * radial[n]
                total += power * of_degree
                power *= stretched
            density[p] += total

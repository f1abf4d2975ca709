"""Superposition of spherical atomic densities."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.interpolate import CubicSpline

from otf.arrays import Floats
from otf.orbitals.periodic_images import images_near

_CHUNK = 2048


@dataclass(frozen=True, eq=False)
class RoundDensity:
    """Spherical density of an isolated atom.

    Attributes
    ----------
    distances
        (points,) ascending from 0, Angstrom; the density is zero beyond the last.
    values
        (points,) electrons per cubic Angstrom.
    """

    distances: Floats
    values: Floats


class DensityOfAtoms:
    """Sum of the atomic densities of a structure.

    Parameters
    ----------
    atoms
        The structure.
    elements
        Atomic densities by atomic number.
    """

    def __init__(self, atoms: Atoms, elements: Mapping[int, RoundDensity]) -> None:
        self._atoms = atoms
        self._splines = {
            z: CubicSpline(d.distances, d.values, extrapolate=False) for z, d in elements.items()
        }
        self._reach = np.array([elements[int(z)].distances[-1] for z in atoms.numbers])

    def at(self, points: Floats) -> Floats:
        """Electrons per cubic Angstrom at points (P, 3), which should be near each other."""
        out = np.zeros(len(points))
        for start in range(0, len(points), _CHUNK):
            part = points[start : start + _CHUNK]
            near = images_near(self._atoms, self._reach, part)
            for atom, position in zip(near.atoms, near.positions, strict=True):
                spline = self._splines[int(self._atoms.numbers[atom])]
                distances = np.linalg.norm(part - position, axis=1)
                out[start : start + _CHUNK] += np.nan_to_num(spline(distances))
        return out

"""Quadrature over a molecule by atom-centred grids with Becke partitioning.

Sources: Becke, J. Chem. Phys. 88, 2547 (1988), eqs. 13, 19-22 and 25 (without atomic sizes);
Lebedev and Laikov, Doklady Math. 59, 477 (1999), in SciPy.
"""

import numpy as np
from ase import Atoms
from scipy.integrate import lebedev_rule
from scipy.spatial.distance import cdist

from otf.arrays import Floats

_SHELLS = 60
_DEGREE = 29  # of the harmonics that the angular grid integrates exactly
_SCALE_A = 0.6  # radius within which half the radial points lie
_SHARPER = 3


def quadrature(atoms: Atoms) -> tuple[Floats, Floats]:
    """Points (P, 3), Angstrom, atom by atom, and weights (P,), cubic Angstrom, of a molecule."""
    directions, solid_angles = lebedev_rule(_DEGREE)
    radii, weights = radial(_SHELLS)
    ball = (radii[:, None, None] * directions.T).reshape(-1, 3)
    of_ball = (weights[:, None] * solid_angles).ravel()
    points = (atoms.positions[:, None, :] + ball).reshape(-1, 3)
    mine = [shares(atoms.positions[k] + ball, atoms.positions)[:, k] for k in range(len(atoms))]
    return points, np.concatenate([of_ball * share for share in mine])


def radial(count: int) -> tuple[Floats, Floats]:
    """Radii, Angstrom, and weights of r^2 dr, from 0 to infinity."""
    angle = np.arange(1, count + 1) * np.pi / (count + 1)
    x = np.cos(angle)
    radii = _SCALE_A * (1.0 + x) / (1.0 - x)
    # Gauss-Chebyshev weights of the second kind, dr/dx and r^2.
    weights = np.pi / (count + 1) * np.sin(angle) * 2.0 * _SCALE_A / (1.0 - x) ** 2 * radii**2
    return radii, weights


def shares(points: Floats, centres: Floats) -> Floats:
    """Becke weights (P, N) of the atoms at each point."""
    distances, between = cdist(points, centres), cdist(centres, centres)
    cells = np.ones_like(distances)
    for i in range(len(centres)):
        for j in range(i):
            side = (distances[:, i] - distances[:, j]) / between[i, j]
            for _ in range(_SHARPER):
                side = 0.5 * side * (3.0 - side * side)
            cells[:, i] *= 0.5 * (1.0 - side)
            cells[:, j] *= 0.5 * (1.0 + side)
    return np.asarray(cells / cells.sum(axis=1)[:, None])

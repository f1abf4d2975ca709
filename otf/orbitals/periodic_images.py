"""Atoms and periodic images within reach of given points."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats, Ints


@dataclass(frozen=True, eq=False)
class Images:
    """Atoms and periodic images.

    Attributes
    ----------
    atoms
        (I,) index of the atom.
    shifts
        (I, 3) lattice translation.
    positions
        (I, 3), Angstrom.
    """

    atoms: Ints
    shifts: Ints
    positions: Floats


def images_near(atoms: Atoms, reach: Floats, points: Floats) -> Images:
    """Find atoms and images within reach of the bounding sphere of points.

    Parameters
    ----------
    reach
        (N,) range of each atom, Angstrom.
    points
        (P, 3).
    """
    centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
    radius = float(np.linalg.norm(points - centre, axis=1).max())
    cell, pbc = atoms.cell.complete().array, atoms.pbc
    inverse = np.linalg.inv(cell)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    scaled = (centre - atoms.positions) @ inverse
    extent = (reach.max() + radius) / heights
    low = np.where(pbc, np.floor(scaled.min(axis=0) - extent), 0).astype(np.int64)
    high = np.where(pbc, np.ceil(scaled.max(axis=0) + extent), 0).astype(np.int64)
    axes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    shifts = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    places = atoms.positions[None, :, :] + (shifts @ cell)[:, None, :]
    far = np.linalg.norm(places - centre, axis=2) - radius
    cells, chosen = np.nonzero(far < reach)
    return Images(chosen, shifts[cells], places[cells, chosen])

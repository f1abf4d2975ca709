r"""Moments of the neighbour density of atoms.

.. math:: A_{i,Z n l m} = \sum_{j \in Z} R_n(r_{ij})\, Y_{lm}(\hat r_{ij})

with the radial polynomials of :mod:`otf.kernels.radial`, which vanish smoothly at the cutoff.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.electrons.harmonics import harmonics
from otf.kernels.jit import kernel
from otf.kernels.neighbours import neighbour_list
from otf.kernels.radial import radial_values, recursion_table

_NEAR_A = 2.5  # a decay is one here: features of bonded atoms stay of order one


@dataclass(frozen=True)
class Reach:
    """Number and range (Angstrom) of radial polynomials.

    Attributes
    ----------
    decay_A
        If given, the polynomials are multiplied by exp(-r / decay), as the effect of a neighbour on
        a matrix element decays with its distance.
    """

    count: int
    r_min: float
    cutoff: float
    decay_A: float | None = None

    def values(self, distances: Floats) -> Floats:
        """R_n (…, count), zero from the cutoff on."""
        flat = np.ascontiguousarray(distances.ravel())
        out = np.zeros((len(flat), self.count))
        _radial(flat, self.r_min, self.cutoff, recursion_table(self.count), out)
        if self.decay_A is not None:
            out *= np.exp((_NEAR_A - flat) / self.decay_A)[:, None]
        return out.reshape(*distances.shape, self.count)


@kernel
def _radial(distances: Floats, r_min: float, cutoff: float, table: Floats, out: Floats) -> None:
    slope = np.empty(out.shape[1])
    for i in range(len(distances)):
        if distances[i] < cutoff:
            radial_values(distances[i], r_min, cutoff, 0.0, table, out[i], slope)


def parts(vectors: Floats, reach: Reach, l_max: int) -> Floats:
    """R_n Y_lm of vectors (B, 3) as (B, n, lm): contributions of neighbours to the moments."""
    distances = np.linalg.norm(vectors, axis=1)
    angular = harmonics(vectors / distances[:, None], l_max)
    return np.asarray(reach.values(distances)[:, :, None] * angular[:, None, :])


def vectors_of(atoms: Atoms, first: Ints, second: Ints, shifts: Ints) -> Floats:
    """Vectors (P, 3) from the first atom of each pair to the second in its cell.

    Those of a pair and of its reverse are opposite to the last bit.
    """
    return np.asarray(
        (atoms.positions[second] - atoms.positions[first]) + shifts @ atoms.cell.array
    )


def neighbours(atoms: Atoms, cutoff: float) -> tuple[Ints, Ints, Ints]:
    """Ordered pairs (first, second, shifts) of distinct atoms or images within a cutoff."""
    cell = np.ascontiguousarray(atoms.cell.complete().array)
    starts, second, shifts = neighbour_list(
        atoms.positions, cell, np.linalg.inv(cell), atoms.pbc.astype(np.int64), cutoff
    )
    first = np.repeat(np.arange(len(atoms)), np.diff(starts))
    return first, second, np.rint(shifts).astype(np.int64)


def shortest_period(atoms: Atoms) -> float:
    """Length of the shortest period, Angstrom; infinite for a molecule."""
    return float(min(atoms.cell.lengths()[atoms.pbc], default=np.inf))


def moments(atoms: Atoms, species: tuple[int, ...], reach: Reach, l_max: int) -> Floats:
    """Moments (N, species, n, lm) of all atoms."""
    first, second, shifts = neighbours(atoms, reach.cutoff)
    added = parts(vectors_of(atoms, first, second, shifts), reach, l_max)
    kind = np.searchsorted(species, atoms.numbers)[second]
    out = np.zeros((len(atoms) * len(species), *added.shape[1:]))
    np.add.at(out, first * len(species) + kind, added)
    return out.reshape(len(atoms), len(species), *added.shape[1:])

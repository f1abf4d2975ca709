"""Histogram of the angles between the neighbours of an atom."""

import numpy as np

from otf.arrays import Floats, Ints
from otf.kernels.jit import kernel


@kernel
def count_angles(
    positions: Floats,
    cell: Floats,
    species: Ints,
    first: Ints,
    indices: Ints,
    shifts: Ints,
    counts: Floats,
) -> None:
    """Add the angles j-i-k, j before k, of one structure to a histogram.

    Parameters
    ----------
    positions, cell
        (N, 3) and (3, 3), Angstrom.
    species
        (N,) species indices from 0.
    first, indices, shifts
        All pairs closer than the cutoff, see :func:`otf.kernels.neighbours.neighbour_list`.
    counts
        (centre, neighbour, neighbour, bins) over 0 to pi; species of the neighbours in ascending
        order.
    """
    n_bins = counts.shape[3]
    most = 0
    for i in range(first.shape[0] - 1):
        most = max(most, first[i + 1] - first[i])
    unit = np.empty((most, 3))
    for i in range(first.shape[0] - 1):
        count = first[i + 1] - first[i]
        for m in range(count):
            slot = first[i] + m
            square = 0.0
            for c in range(3):
                unit[m, c] = (
                    positions[indices[slot], c]
                    - positions[i, c]
                    + shifts[slot, 0] * cell[0, c]
                    + shifts[slot, 1] * cell[1, c]
                    + shifts[slot, 2] * cell[2, c]
                )
                square += unit[m, c] ** 2
            unit[m] /= np.sqrt(square)
        for m in range(count):
            a = species[indices[first[i] + m]]
            for k in range(m):
                b = species[indices[first[i] + k]]
                cosine = unit[m, 0] * unit[k, 0] + unit[m, 1] * unit[k, 1] + unit[m, 2] * unit[k, 2]
                angle = np.arccos(min(1.0, max(-1.0, cosine)))
                place = min(int(angle / np.pi * n_bins), n_bins - 1)
                counts[species[i], min(a, b), max(a, b), place] += 1.0

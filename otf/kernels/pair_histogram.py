"""Histogram of pair distances for any triclinic cell and any periodicity, with images.

The cutoff may exceed the cell: all images within it are counted. Atoms are sorted into bins about
half a cutoff wide; each pair of bins is visited once and each distance counted for both atoms.
"""

import math

import numpy as np

from otf.arrays import Floats, Ints
from otf.kernels.jit import kernel
from otf.kernels.neighbours import bins_of, into_the_cell, sort_into_bins

_BINS_IN_CUTOFF = 2.0


def count_pairs(
    positions: Floats,
    cell: Floats,
    inverse_cell: Floats,
    periodic: Ints,
    species: Ints,
    cutoff: float,
    counts: Floats,
) -> None:
    """Add the pairs of one structure to a histogram.

    Parameters
    ----------
    positions
        (N, 3), Angstrom, wrapped or not.
    cell, inverse_cell
        (3, 3) full-rank cell, rows are the vectors; directions that are not periodic may hold any
        independent vector.
    periodic
        (3,), 0 or 1.
    species
        (N,) species indices from 0.
    cutoff
        Angstrom; the upper end of the last bin.
    counts
        (species, species, bins): entry (a, b) counts atoms b around atoms a.
    """
    fractional, _ = into_the_cell(positions, inverse_cell, periodic)
    width, most = cutoff / _BINS_IN_CUTOFF, max(1, math.ceil(len(positions) ** (1.0 / 3.0)))
    bins, reach, low, span = bins_of(
        fractional, inverse_cell, periodic, cutoff, width=width, most=most
    )
    place, start, members = sort_into_bins(fractional, bins, low, span)
    _count(fractional, cell, periodic, species, cutoff, bins, reach, place, start, members, counts)


@kernel
def _count(
    fractional: Floats,
    cell: Floats,
    periodic: Ints,
    species: Ints,
    cutoff: float,
    bins: Ints,
    reach: Ints,
    place: Ints,
    start: Ints,
    members: Ints,
    counts: Floats,
) -> None:
    """The pairs of :func:`count_pairs` between atoms in bins near each other."""
    n, n_bins = fractional.shape[0], counts.shape[2]
    sorted_positions = np.empty((3, n))  # wrapped
    sorted_species = np.empty(n, np.int64)
    for slot in range(n):
        i = members[slot]
        sorted_species[slot] = species[i]
        for c in range(3):
            sorted_positions[c, slot] = (
                fractional[i, 0] * cell[0, c]
                + fractional[i, 1] * cell[1, c]
                + fractional[i, 2] * cell[2, c]
            )
    x, y, z = sorted_positions[0], sorted_positions[1], sorted_positions[2]
    square, scale = cutoff * cutoff, n_bins / cutoff
    image = np.empty(3, np.int64)
    at = np.empty(3, np.int64)
    for home in range(start.shape[0] - 1):
        if start[home] == start[home + 1]:
            continue
        here = place[members[start[home]]]
        for dx in range(-reach[0], reach[0] + 1):
            for dy in range(-reach[1], reach[1] + 1):
                for dz in range(-reach[2], reach[2] + 1):
                    if (dx, dy, dz) < (0, 0, 0):
                        continue  # counted from the other bin
                    raw = (here[0] + dx, here[1] + dy, here[2] + dz)
                    outside = False
                    for d in range(3):
                        image[d] = raw[d] // bins[d]
                        at[d] = raw[d] - image[d] * bins[d]
                        outside = outside or (image[d] != 0 and periodic[d] == 0)
                    if outside:
                        continue
                    other = (at[0] * bins[1] + at[1]) * bins[2] + at[2]
                    same = dx == 0 and dy == 0 and dz == 0
                    sx = image[0] * cell[0, 0] + image[1] * cell[1, 0] + image[2] * cell[2, 0]
                    sy = image[0] * cell[0, 1] + image[1] * cell[1, 1] + image[2] * cell[2, 1]
                    sz = image[0] * cell[0, 2] + image[1] * cell[1, 2] + image[2] * cell[2, 2]
                    for i in range(start[home], start[home + 1]):
                        a = sorted_species[i]
                        ox, oy, oz = x[i] - sx, y[i] - sy, z[i] - sz
                        for j in range(i + 1 if same else start[other], start[other + 1]):
                            r2 = (x[j] - ox) ** 2 + (y[j] - oy) ** 2 + (z[j] - oz) ** 2
                            if r2 < square:
                                k = min(int(np.sqrt(r2) * scale), n_bins - 1)
                                b = sorted_species[j]
                                counts[a, b, k] += 1.0
                                counts[b, a, k] += 1.0

"""Histogram of pair distances for any triclinic cell and any periodicity, with images.

The cutoff may exceed the cell: all images within it are counted. Atoms are sorted into bins about
half a cutoff wide; each pair of bins is visited once and each distance counted for both atoms.
"""

import numpy as np

from otf.arrays import Floats, Ints
from otf.kernels.jit import kernel
from otf.kernels.neighbours import sort_into_bins

_BINS_IN_CUTOFF = 2.0


@kernel
def _bins(heights: Floats, periodic: Ints, cutoff: float, n: int) -> tuple[Ints, Ints]:
    """Number of bins and search range in bins along each direction."""
    bins = np.ones(3, np.int64)
    reach = np.zeros(3, np.int64)
    most = max(1, int(np.ceil(float(n) ** (1.0 / 3.0))))
    for d in range(3):
        bins[d] = min(max(1, int(heights[d] * _BINS_IN_CUTOFF / cutoff)), most)
        reach[d] = int(np.ceil(cutoff * bins[d] / heights[d]))
        if not periodic[d]:
            reach[d] = min(reach[d], bins[d] - 1)
    return bins, reach


@kernel
def _wrapped(
    positions: Floats, inverse_cell: Floats, periodic: Ints
) -> tuple[Floats, Floats, Floats, Floats]:
    """Fractional coordinates, wrapped where periodic; their origin and span, and cell heights."""
    fractional = positions @ inverse_cell
    low = np.zeros(3)
    span = np.ones(3)
    heights = np.empty(3)
    for d in range(3):
        if periodic[d]:
            for i in range(positions.shape[0]):
                fractional[i, d] -= np.floor(fractional[i, d])
        else:
            low[d] = np.min(fractional[:, d])
            span[d] = np.max(fractional[:, d]) - low[d] + 1e-9
        heights[d] = span[d] / np.sqrt(np.sum(inverse_cell[:, d] ** 2))
    return fractional, low, span, heights


@kernel
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
    n = positions.shape[0]
    n_bins = counts.shape[2]
    fractional, low, span, heights = _wrapped(positions, inverse_cell, periodic)
    bins, reach = _bins(heights, periodic, cutoff, n)
    place, start, members = sort_into_bins(fractional, bins, low, span)
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

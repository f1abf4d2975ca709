"""Linked-cell neighbour list for any triclinic cell and any periodicity.

For cells smaller than the cutoff all images within it are searched. The neighbours of an atom are
sorted by (index, shift), so that sums over them are bitwise independent of when a list with a skin
was built.
"""

import math

import numpy as np

from otf.arrays import Floats, Ints
from otf.kernels.jit import inner_kernel, kernel

_BITS = 21
_ZERO = 1 << _BITS - 1  # shifts from -2**20 to 2**20 - 1


@inner_kernel
def _packed(s0: int, s1: int, s2: int) -> int:
    """A shift as one integer, in the order of the components."""
    return ((s0 + _ZERO << _BITS) + s1 + _ZERO << _BITS) + s2 + _ZERO


@inner_kernel
def _sort_row(start: int, end: int, index: Ints, packed: Ints) -> None:
    """Insertion sort: rows are short and arrive nearly ordered."""
    for a in range(start + 1, end):
        j, s, b = index[a], packed[a], a - 1
        while b >= start and (index[b] > j or (index[b] == j and packed[b] > s)):
            index[b + 1], packed[b + 1] = index[b], packed[b]
            b -= 1
        index[b + 1], packed[b + 1] = j, s


@inner_kernel
def _leading(array: Ints, count: int, room: int = 0) -> Ints:
    """A copy of the first numbers of an array, with room for more."""
    out = np.empty(count + room, np.int64)
    for k in range(count):
        out[k] = array[k]
    return out


def bins_of(
    fractional: Floats,
    inverse_cell: Floats,
    periodic: Ints,
    cutoff: float,
    *,
    width: float,
    most: int,
) -> tuple[Ints, Ints, Floats, Floats]:
    """Number of bins, search range in bins, origin and span of the bins along each direction.

    Parameters
    ----------
    fractional, inverse_cell, periodic, cutoff
        See :func:`into_the_cell` and :func:`neighbour_list`.
    width
        Smallest width of a bin, Angstrom.
    most
        Largest number of bins along a direction.
    """
    wrapped = periodic.astype(bool)
    low = np.where(wrapped, 0.0, fractional.min(axis=0))
    span = np.where(wrapped, 1.0, fractional.max(axis=0) - low + 1e-9)
    height = span / np.sqrt((inverse_cell**2).sum(axis=0))
    bins = np.clip((height / width).astype(np.int64), 1, most)
    reach = np.ceil(cutoff * bins / height).astype(np.int64)
    return bins, np.where(wrapped, reach, np.minimum(reach, bins - 1)), low, span


def into_the_cell(positions: Floats, inverse_cell: Floats, periodic: Ints) -> tuple[Floats, Ints]:
    """Fractional positions (N, 3), between 0 and 1 in periodic directions, and shifts (N, 3)."""
    fractional: Floats = positions @ inverse_cell
    wrap = np.where(periodic.astype(bool), np.floor(fractional), 0.0)
    return fractional - wrap, wrap.astype(np.int64)


@kernel
def sort_into_bins(
    fractional: Floats, bins: Ints, low: Floats, span: Floats
) -> tuple[Ints, Ints, Ints]:
    """Bin of each atom (N, 3), start of each bin, and the atoms in bin order (counting sort)."""
    n = fractional.shape[0]
    place = np.empty((n, 3), np.int64)
    start = np.zeros(bins[0] * bins[1] * bins[2] + 1, np.int64)
    for i in range(n):
        for d in range(3):
            b = int((fractional[i, d] - low[d]) / span[d] * bins[d])
            place[i, d] = min(max(b, 0), bins[d] - 1)
        start[(place[i, 0] * bins[1] + place[i, 1]) * bins[2] + place[i, 2] + 1] += 1
    for b in range(start.shape[0] - 1):
        start[b + 1] += start[b]
    fill = start[:-1].copy()
    members = np.empty(n, np.int64)
    for i in range(n):
        b = (place[i, 0] * bins[1] + place[i, 1]) * bins[2] + place[i, 2]
        members[fill[b]] = i
        fill[b] += 1
    return place, start, members


def neighbour_list(
    positions: Floats, cell: Floats, inverse_cell: Floats, periodic: Ints, cutoff: float
) -> tuple[Ints, Ints, Ints]:
    """All ordered pairs closer than the cutoff.

    Parameters
    ----------
    positions
        (N, 3), Angstrom, wrapped or not.
    cell, inverse_cell
        (3, 3) full-rank cell, rows are the vectors; directions that are not periodic may hold any
        independent vector.
    periodic
        (3,), 0 or 1.
    cutoff
        Angstrom.

    Returns
    -------
    first : (N + 1,)
        Neighbours of atom i are the entries first[i] to first[i + 1].
    index : (P,)
        Neighbouring atom j.
    shift : (P, 3)
        Cell vectors added to atom j: d = positions[j] - positions[i] + shift @ cell.
    """
    fractional, wrap = into_the_cell(positions, inverse_cell, periodic)
    most = max(1, math.ceil((8.0 * len(positions)) ** (1.0 / 3.0)))
    bins, reach, low, span = bins_of(
        fractional, inverse_cell, periodic, cutoff, width=cutoff, most=most
    )
    place, start, members = sort_into_bins(fractional, bins, low, span)
    first, index, packed = _search(
        positions, cell, periodic, cutoff, wrap, bins, reach, place, start, members
    )
    return first, index, _unpacked(packed)


@kernel
def _search(
    positions: Floats,
    cell: Floats,
    periodic: Ints,
    cutoff: float,
    wrap: Ints,
    bins: Ints,
    reach: Ints,
    place: Ints,
    start: Ints,
    members: Ints,
) -> tuple[Ints, Ints, Ints]:
    """The pairs of :func:`neighbour_list` between atoms in bins near each other, shifts packed."""
    n = positions.shape[0]
    wrapped = np.empty((n, 3))
    for i in range(n):
        for c in range(3):
            back = wrap[i, 0] * cell[0, c] + wrap[i, 1] * cell[1, c] + wrap[i, 2] * cell[2, c]
            wrapped[i, c] = positions[i, c] - back
    first = np.zeros(n + 1, np.int64)
    index, packed = np.empty(64 * n, np.int64), np.empty(64 * n, np.int64)
    total = 0
    for i in range(n):
        for x in range(place[i, 0] - reach[0], place[i, 0] + reach[0] + 1):
            for y in range(place[i, 1] - reach[1], place[i, 1] + reach[1] + 1):
                for z in range(place[i, 2] - reach[2], place[i, 2] + reach[2] + 1):
                    a, b, c = x // bins[0], y // bins[1], z // bins[2]
                    if (
                        (a and not periodic[0])
                        or (b and not periodic[1])
                        or (c and not periodic[2])
                    ):
                        continue
                    at = ((x - a * bins[0]) * bins[1] + y - b * bins[1]) * bins[2] + z - c * bins[2]
                    dx = a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0] - wrapped[i, 0]
                    dy = a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1] - wrapped[i, 1]
                    dz = a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2] - wrapped[i, 2]
                    while total + start[at + 1] - start[at] > index.shape[0]:
                        index = _leading(index, total, total)
                        packed = _leading(packed, total, total)
                    for slot in range(start[at], start[at + 1]):
                        j = members[slot]
                        square = (
                            (wrapped[j, 0] + dx) ** 2
                            + (wrapped[j, 1] + dy) ** 2
                            + (wrapped[j, 2] + dz) ** 2
                        )
                        itself = i == j and a == 0 and b == 0 and c == 0
                        if square < cutoff * cutoff and not itself:
                            index[total] = j
                            packed[total] = _packed(
                                a - wrap[j, 0] + wrap[i, 0],
                                b - wrap[j, 1] + wrap[i, 1],
                                c - wrap[j, 2] + wrap[i, 2],
                            )
                            total += 1
        first[i + 1] = total
        _sort_row(first[i], total, index, packed)
    return first, _leading(index, total), _leading(packed, total)


def _unpacked(packed: Ints) -> Ints:
    """The shifts (P, 3)."""
    places = np.array([2 * _BITS, _BITS, 0])
    shifts: Ints = (packed[:, None] >> places & 2 * _ZERO - 1) - _ZERO
    return shifts


@kernel
def offsets_of(shift: Ints, cell: Floats) -> Floats:
    """Shifts (P, 3) of the periodic images, Angstrom."""
    out = np.empty((shift.shape[0], 3))
    for k in range(shift.shape[0]):
        for c in range(3):
            out[k, c] = (
                shift[k, 0] * cell[0, c] + shift[k, 1] * cell[1, c] + shift[k, 2] * cell[2, c]
            )
    return out


@kernel
def reverse_slots(first: Ints, index: Ints, shift: Ints) -> Ints:
    """Index (P,) of pair (j, i, -shift) for every pair (i, j, shift) of a full list.

    It is found by bisection of the sorted rows.
    """
    out, packed = np.empty(index.shape[0], np.int64), np.empty(index.shape[0], np.int64)
    for slot in range(index.shape[0]):
        packed[slot] = _packed(shift[slot, 0], shift[slot, 1], shift[slot, 2])
    for i in range(first.shape[0] - 1):
        for slot in range(first[i], first[i + 1]):
            back = _packed(-shift[slot, 0], -shift[slot, 1], -shift[slot, 2])
            low, high = first[index[slot]], first[index[slot] + 1]
            while low < high:
                middle = (low + high) // 2
                if index[middle] < i or (index[middle] == i and packed[middle] < back):
                    low = middle + 1
                else:
                    high = middle
            out[slot] = low
    return out

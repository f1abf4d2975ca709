"""Linked-cell neighbour list for any triclinic cell and any periodicity.

For cells smaller than the cutoff all images within it are searched. The neighbours of an atom are
sorted by (index, shift), so that sums over them are bitwise independent of when a list with a skin
was built.
"""

import numpy as np

from otf.arrays import Floats, Ints
from otf.kernels.jit import kernel


@kernel
def _comes_before(j: int, s: Ints, k: int, t: Ints) -> bool:
    if j != k:
        return j < k
    for d in range(3):
        if s[d] != t[d]:
            return bool(s[d] < t[d])
    return False


@kernel
def _sort_row(start: int, end: int, index: Ints, shift: Ints) -> None:
    """Insertion sort: rows are short and arrive nearly ordered."""
    moved = np.empty(3, np.int64)
    for a in range(start + 1, end):
        j = index[a]
        moved[:] = shift[a]
        b = a - 1
        while b >= start and _comes_before(j, moved, index[b], shift[b]):
            index[b + 1] = index[b]
            shift[b + 1] = shift[b]
            b -= 1
        index[b + 1] = j
        shift[b + 1] = moved


@kernel
def _bins(
    fractional: Floats, inverse_cell: Floats, periodic: Ints, cutoff: float
) -> tuple[Ints, Ints, Floats, Floats]:
    """Number of bins, search range in bins, origin and span of the bins along each direction."""
    n = fractional.shape[0]
    bins = np.ones(3, np.int64)
    reach = np.zeros(3, np.int64)
    low = np.zeros(3)
    span = np.ones(3)
    most = max(1, int(np.ceil((8.0 * n) ** (1.0 / 3.0))))
    for d in range(3):
        if not periodic[d]:
            low[d] = np.min(fractional[:, d])
            span[d] = np.max(fractional[:, d]) - low[d] + 1e-9
        height = span[d] / np.sqrt(np.sum(inverse_cell[:, d] ** 2))
        bins[d] = min(max(1, int(height / cutoff)), most)
        reach[d] = int(np.ceil(cutoff * bins[d] / height))
        if not periodic[d]:
            reach[d] = min(reach[d], bins[d] - 1)
    return bins, reach, low, span


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


@kernel
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
    n = positions.shape[0]
    fractional = positions @ inverse_cell
    wrap = np.zeros((n, 3), np.int64)
    for d in range(3):
        if periodic[d]:
            for i in range(n):
                wrap[i, d] = np.int64(np.floor(fractional[i, d]))
                fractional[i, d] -= wrap[i, d]
    bins, reach, low, span = _bins(fractional, inverse_cell, periodic, cutoff)
    place, start, members = sort_into_bins(fractional, bins, low, span)

    first = np.zeros(n + 1, np.int64)
    capacity = 64 * n
    index = np.empty(capacity, np.int64)
    shift = np.empty((capacity, 3), np.int64)
    total = 0
    raw = np.empty(3, np.int64)
    image = np.empty(3, np.int64)
    s = np.empty(3, np.int64)
    for i in range(n):
        for cube in range((2 * reach[0] + 1) * (2 * reach[1] + 1) * (2 * reach[2] + 1)):
            rest = cube // (2 * reach[2] + 1)
            raw[2] = place[i, 2] + cube % (2 * reach[2] + 1) - reach[2]
            raw[1] = place[i, 1] + rest % (2 * reach[1] + 1) - reach[1]
            raw[0] = place[i, 0] + rest // (2 * reach[1] + 1) - reach[0]
            outside = False
            for d in range(3):
                image[d] = raw[d] // bins[d]
                outside = outside or (image[d] != 0 and periodic[d] == 0)
            if outside:
                continue
            at = raw - image * bins
            b = (at[0] * bins[1] + at[1]) * bins[2] + at[2]
            for slot in range(start[b], start[b + 1]):
                j = members[slot]
                for d in range(3):
                    s[d] = image[d] - wrap[j, d] + wrap[i, d]
                r2 = 0.0
                for c in range(3):
                    r2 += (
                        positions[j, c]
                        - positions[i, c]
                        + (s[0] * cell[0, c] + s[1] * cell[1, c] + s[2] * cell[2, c])
                    ) ** 2
                itself = i == j and s[0] == 0 and s[1] == 0 and s[2] == 0
                if itself or r2 >= cutoff * cutoff:
                    continue
                if total == capacity:
                    index = np.concatenate((index, np.empty(capacity, np.int64)))
                    shift = np.concatenate((shift, np.empty((capacity, 3), np.int64)))
                    capacity *= 2
                index[total] = j
                shift[total] = s
                total += 1
        first[i + 1] = total
        _sort_row(first[i], total, index, shift)
    return first, index[:total].copy(), shift[:total].copy()


@kernel
def reverse_slots(first: Ints, index: Ints, shift: Ints) -> Ints:
    """Index (P,) of pair (j, i, -shift) for every pair (i, j, shift) of a full list.

    It is found by bisection of the sorted rows.
    """
    out = np.empty(index.shape[0], np.int64)
    back = np.empty(3, np.int64)
    for i in range(first.shape[0] - 1):
        for slot in range(first[i], first[i + 1]):
            j = index[slot]
            back[:] = -shift[slot]
            low, high = first[j], first[j + 1]
            while low < high:
                middle = (low + high) // 2
                if _comes_before(index[middle], shift[middle], i, back):
                    low = middle + 1
                else:
                    high = middle
            out[slot] = low
    return out

r"""The neighbours of an atom, sorted by species into pages, and their moments.

A page (:mod:`otf.kernels.shapes`) has the neighbours inside the cutoff of triples first, then
the others, then neighbours beyond every cutoff that complete the last group.

=======================  ==============================================
formula                  code
=======================  ==============================================
r_ij                     :func:`fill_pages`
V_{s,k}, A_{c,lm}        :func:`low_features` (definitions in :mod:`otf.kernels.descriptor`)
V_{cc'l}                 :func:`otf.kernels.generated.fill_spectrum`
=======================  ==============================================
"""

import math
from typing import NamedTuple

import numpy as np

from otf.arrays import Floats, Ints
from otf.kernels.descriptor import Basis, Neighbours, feature_count, low_count
from otf.kernels.generated import page_moments, pair_features, spectrum
from otf.kernels.jit import inlined, inner_kernel
from otf.kernels.shapes import LANES, Shape, X, Y, Z, make_shape, rows_of


class Pages(NamedTuple):
    """Buffers for one atom, reused for every atom.

    Attributes
    ----------
    shape
        The sizes for which the kernels are compiled.
    page, slot
        (species, rows * width), and (species, width) index of each neighbour in the list.
    near, within
        (species,) neighbours inside the cutoff of triples, and inside the larger cutoff.
    vector, left
        Vectors, Angstrom, and slots of neighbours that are not yet in a page.
    """

    shape: Shape
    page: Floats
    slot: Ints
    near: Ints
    within: Ints
    vector: Floats
    left: Ints
    own: Floats
    moments: Floats
    features: Floats
    gradient: Floats
    adjoint: Floats
    kept_gradient: Floats
    kept_adjoint: Floats
    z: Floats
    bz: Floats


def make_pages(basis: Basis, most_neighbours: int, components: int) -> Pages:
    """Allocate buffers for up to ``most_neighbours`` neighbours and ``components`` components z."""
    n_two, n_three = basis.two_table.shape[0], basis.three_table.shape[0]
    shape = make_shape(n_two, n_three, basis.norm.shape[0], most_neighbours + LANES)
    rows, species = rows_of(shape), basis.n_species
    of_species = n_three * rows.n_lm
    moments, low = basis.mixing.channels * of_species, low_count(basis)
    return Pages(
        shape=shape,
        page=np.empty((species, rows.total * rows.width)),
        slot=np.empty((species, rows.width), np.int64),
        near=np.empty(species, np.int64),
        within=np.empty(species, np.int64),
        vector=np.empty((most_neighbours, 3)),
        left=np.empty(most_neighbours, np.int64),
        own=np.empty(of_species),
        moments=np.empty(moments),
        features=np.empty(feature_count(basis)),
        gradient=np.empty(low),
        adjoint=np.empty(moments),
        kept_gradient=np.empty(low),
        kept_adjoint=np.empty(moments),
        z=np.empty(components),
        bz=np.empty(components),
    )


@inlined
def _append(s: int, slot: int, x: float, y: float, z: float, pages: Pages) -> None:
    """Add a neighbour to the page of its species."""
    width, column = pages.slot.shape[1], pages.within[s]
    pages.page[s, X * width + column] = x
    pages.page[s, Y * width + column] = y
    pages.page[s, Z * width + column] = z
    pages.slot[s, column] = slot
    pages.within[s] = column + 1


@inner_kernel
def groups(count: int) -> int:
    """Columns of the groups that hold this many neighbours."""
    return (count + LANES - 1) // LANES * LANES


@inlined
def fill_pages(
    i: int,
    positions: Floats,
    species: Ints,
    neighbours: Neighbours,
    basis: Basis,
    pages: Pages,
) -> None:
    """Sort the vectors to the neighbours of atom i into the pages."""
    near, far = basis.cutoff_three**2, max(basis.cutoff_two, basis.cutoff_three) ** 2
    vector, left, begin = pages.vector, pages.left, neighbours.first[i]
    for s in range(basis.n_species):
        pages.within[s] = 0
    beyond = 0  # neighbours beyond the cutoff of triples
    for slot in range(begin, neighbours.first[i + 1]):
        j = neighbours.indices[slot]
        x = positions[j, 0] - positions[i, 0] + neighbours.offsets[slot, 0]
        y = positions[j, 1] - positions[i, 1] + neighbours.offsets[slot, 1]
        z = positions[j, 2] - positions[i, 2] + neighbours.offsets[slot, 2]
        square = x * x + y * y + z * z
        if square < near:
            _append(species[j], slot, x, y, z, pages)
        elif square < far:
            vector[beyond, 0], vector[beyond, 1], vector[beyond, 2] = x, y, z
            left[beyond] = slot
            beyond += 1
    for s in range(basis.n_species):
        pages.near[s] = pages.within[s]
    for n in range(beyond):
        s = species[neighbours.indices[left[n]]]
        _append(s, left[n], vector[n, 0], vector[n, 1], vector[n, 2], pages)
    for s in range(basis.n_species):
        count = pages.within[s]
        while pages.within[s] < groups(count):
            _append(s, 0, 0.0, 0.0, 2.0 * math.sqrt(far), pages)
        pages.within[s] = count


@inlined
def low_features(basis: Basis, pages: Pages) -> None:
    """Two- and three-body features and the moments, from the vectors in the pages."""
    shape, mixing = pages.shape, basis.mixing
    n_two, of_species = basis.two_table.shape[0], pages.own.shape[0]
    for k in range(pages.moments.shape[0]):
        pages.moments[k] = 0.0
    for s in range(basis.n_species):
        page, every, near = pages.page[s], groups(pages.within[s]), groups(pages.near[s])
        pair_features(
            shape,
            every,
            page,
            basis.r_min,
            basis.cutoff_two,
            basis.decay,
            pages.features,
            s * n_two,
        )
        if near == 0:
            continue
        page_moments(shape, near, page, basis.r_min, basis.cutoff_three, basis.decay, pages.own)
        for e in range(mixing.first[s], mixing.first[s + 1]):
            start, weight = mixing.channel[e] * of_species, mixing.weight[e]
            for k in range(of_species):
                pages.moments[start + k] += weight * pages.own[k]
    channels = mixing.channels * basis.three_table.shape[0]
    spectrum(shape, channels, pages.moments, pages.features, basis.n_species * n_two)

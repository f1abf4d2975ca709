r"""Features of one atom and their derivatives.

.. math::

   V_{s,k}(i) &= \sum_{j \in s} R_k(r_{ij}) \\
   A_{c,lm}(i) &= \sum_j U_{k s_j} R_n(r_{ij})\, Y_{lm}(\hat r_{ij}), \qquad c = (k, n) \\
   V_{cc'l}(i) &= \sum_m A_{c,lm} A_{c',lm}, \qquad c \le c'

U mixes species into channels k: the identity gives one channel to each species; fewer channels than
species keep the number of features small where there are many (:mod:`otf.model.mixing`). By the
addition theorem the sum over m is :math:`P_l(\cos\theta)` of every pair of neighbours, at
the cost of one loop over neighbours. The features of an atom are ordered: two-body, three-body
(together "low"), then those of :mod:`otf.kernels.four_body`, products of the same moments.

=======================  ==============================================
formula                  code
=======================  ==============================================
R_k, dR_k/dr             :func:`otf.kernels.radial.radial_values`
Y_lm and gradient        :func:`otf.kernels.harmonics.solid_harmonics`
A_{c,lm}, V_{s,k}        :func:`visit_neighbours`
V_{cc'l}                 :func:`power_spectrum`
dV/dr_j                  :func:`feature_gradient`
=======================  ==============================================

Sources: Bartok, Kondor, Csanyi, Phys. Rev. B 87, 184115 (2013), eqs. 31-36 (power spectrum);
Drautz, Phys. Rev. B 99, 014104 (2019), sec. III (moments); Willatt, Musil, Ceriotti, Phys. Chem.
Chem. Phys. 20, 29661 (2018) (mixing of species).
"""

from typing import NamedTuple

import numpy as np

from otf.arrays import Floats, Ints
from otf.kernels.four_body import FourBody, make_four_body
from otf.kernels.harmonics import normalisation, solid_harmonics
from otf.kernels.jit import inner_kernel
from otf.kernels.radial import radial_values, recursion_table


class Mixing(NamedTuple):
    """The nonzero U of each species.

    Attributes
    ----------
    channels
        Number of channels k.
    first
        (species + 1,) entries of species s: ``first[s]`` to ``first[s + 1]``.
    channel, weight
        (entries,) k and U.
    """

    channels: int
    first: Ints
    channel: Ints
    weight: Floats


class Basis(NamedTuple):
    """Sizes, cutoffs (Angstrom), distance coordinate and constant tables of a descriptor."""

    n_species: int
    mixing: Mixing
    r_min: float
    cutoff_two: float
    cutoff_three: float
    decay: float
    two_table: Floats
    three_table: Floats
    norm: Floats
    four: FourBody


class Neighbours(NamedTuple):
    """The neighbour list of a structure (see :func:`otf.kernels.neighbours.neighbour_list`).

    Attributes
    ----------
    first, indices
        (N + 1,) and (P,).
    offsets
        (P, 3) shifts of the periodic images, Angstrom.
    reverse
        (P,) index of the pair in the other direction.
    """

    first: Ints
    indices: Ints
    offsets: Floats
    reverse: Ints


class Workspace(NamedTuple):
    """Buffers for one atom, reused for every atom; rows are its neighbours inside the cutoff.

    ``slot`` holds the index of each of these neighbours in the neighbour list.
    """

    atom: Ints
    slot: Ints
    vector: Floats
    distance: Floats
    two: Floats
    two_slope: Floats
    three: Floats
    three_slope: Floats
    harmonic: Floats
    harmonic_gradient: Floats
    legendre: Floats
    moments: Floats
    features: Floats
    four_jacobian: Floats


def make_basis(
    *,
    mixing: Floats,
    r_min: float,
    cutoff_two: float,
    cutoff_three: float,
    decay: float = 0.0,
    n_two: int,
    n_three: int,
    l_max: int,
    n_four: int = 0,
    l_four: int = 0,
    degree_four: int = -1,
) -> Basis:
    """Make a basis with its recursion tables, norms and couplings.

    Parameters
    ----------
    mixing
        (channels, species) U.
    """
    n_channels, n_species = mixing.shape
    return Basis(
        n_species,
        _sparse(mixing),
        r_min,
        cutoff_two,
        cutoff_three,
        decay,
        recursion_table(n_two),
        recursion_table(n_three),
        normalisation(l_max),
        make_four_body(
            n_channels=n_channels,
            n_three=n_three,
            l_max=l_max,
            n_radial=n_four,
            l_four=l_four,
            degree=degree_four,
        ),
    )


def _sparse(mixing: Floats) -> Mixing:
    species, channel = np.nonzero(mixing.T)
    first = np.searchsorted(species, np.arange(mixing.shape[1] + 1))
    # Contiguous: kernels are compiled anew for arrays that are not.
    channel = np.ascontiguousarray(channel)
    return Mixing(len(mixing), first.astype(np.int64), channel, mixing[channel, species])


def low_count(basis: Basis) -> int:
    """Number of two- and three-body features of an atom."""
    channels = basis.mixing.channels * basis.three_table.shape[0]
    two = basis.n_species * basis.two_table.shape[0]
    return int(two + channels * (channels + 1) // 2 * basis.norm.shape[0])


def feature_count(basis: Basis) -> int:
    """Length of the feature vector of an atom."""
    return low_count(basis) + len(basis.four.first) - 1


def make_workspace(basis: Basis, most_neighbours: int) -> Workspace:
    """Allocate buffers for up to ``most_neighbours`` neighbours."""
    n_two = basis.two_table.shape[0]
    n_three = basis.three_table.shape[0]
    degrees = basis.norm.shape[0]
    n_lm = degrees * degrees
    channels = basis.mixing.channels * n_three
    return Workspace(
        atom=np.empty(most_neighbours, np.int64),
        slot=np.empty(most_neighbours, np.int64),
        vector=np.empty((most_neighbours, 3)),
        distance=np.empty(most_neighbours),
        two=np.empty((most_neighbours, n_two)),
        two_slope=np.empty((most_neighbours, n_two)),
        three=np.empty((most_neighbours, n_three)),
        three_slope=np.empty((most_neighbours, n_three)),
        harmonic=np.empty((most_neighbours, n_lm)),
        harmonic_gradient=np.empty((most_neighbours, n_lm, 3)),
        legendre=np.empty((degrees + 1, degrees + 1)),
        moments=np.empty((channels, n_lm)),
        features=np.empty(feature_count(basis)),
        four_jacobian=np.empty(len(basis.four.touched)),
    )


@inner_kernel
def visit_neighbours(
    i: int,
    positions: Floats,
    species: Ints,
    neighbours: Neighbours,
    basis: Basis,
    work: Workspace,
) -> int:
    """Fill the two-body features, the moments and the per-neighbour buffers of atom i.

    Returns the number of neighbours inside the larger cutoff. The three-body buffers of neighbours
    beyond ``cutoff_three`` are not filled: check the distance before reading them.
    """
    n_two = basis.two_table.shape[0]
    n_three = basis.three_table.shape[0]
    n_lm = basis.norm.shape[0] ** 2
    cutoff = max(basis.cutoff_two, basis.cutoff_three)
    work.features[: basis.n_species * n_two] = 0.0
    work.moments[:] = 0.0
    count = 0
    for slot in range(neighbours.first[i], neighbours.first[i + 1]):
        j = neighbours.indices[slot]
        r2 = 0.0
        for c in range(3):
            delta = positions[j, c] - positions[i, c] + neighbours.offsets[slot, c]
            work.vector[count, c] = delta
            r2 += delta * delta
        if r2 >= cutoff * cutoff:
            continue
        r = np.sqrt(r2)
        s = species[j]
        work.atom[count] = j
        work.slot[count] = slot
        work.distance[count] = r
        if r < basis.cutoff_two:
            two, two_slope = work.two[count], work.two_slope[count]
            radial_values(
                r, basis.r_min, basis.cutoff_two, basis.decay, basis.two_table, two, two_slope
            )
            for k in range(n_two):
                work.features[s * n_two + k] += two[k]
        else:
            work.two_slope[count] = 0.0
        if r < basis.cutoff_three:
            three, three_slope = work.three[count], work.three_slope[count]
            radial_values(
                r,
                basis.r_min,
                basis.cutoff_three,
                basis.decay,
                basis.three_table,
                three,
                three_slope,
            )
            solid_harmonics(
                work.vector[count, 0] / r,
                work.vector[count, 1] / r,
                work.vector[count, 2] / r,
                basis.norm,
                work.legendre,
                work.harmonic[count],
                work.harmonic_gradient[count],
            )
            for e in range(basis.mixing.first[s], basis.mixing.first[s + 1]):
                channel, weight = basis.mixing.channel[e] * n_three, basis.mixing.weight[e]
                for k in range(n_three):
                    value = weight * three[k]
                    for lm in range(n_lm):
                        work.moments[channel + k, lm] += value * work.harmonic[count, lm]
        count += 1
    return count


@inner_kernel
def power_spectrum(basis: Basis, work: Workspace) -> None:
    """Fill the three-body features from the moments."""
    degrees = basis.norm.shape[0]
    channels = work.moments.shape[0]
    f = basis.n_species * basis.two_table.shape[0]
    for c in range(channels):
        for other in range(c, channels):
            for degree in range(degrees):
                total = 0.0
                for lm in range(degree * degree, (degree + 1) * (degree + 1)):
                    total += work.moments[c, lm] * work.moments[other, lm]
                work.features[f] = total
                f += 1


@inner_kernel
def feature_gradient(
    neighbour: int, species_j: int, basis: Basis, work: Workspace, moment: Floats, out: Floats
) -> None:
    """Derivatives of every feature of the centre with respect to the position of one neighbour.

    Parameters
    ----------
    neighbour, species_j
        Row in the workspace, and species, of that neighbour.
    work
        Buffers of the centre, with ``four_jacobian`` filled.
    moment
        Scratch (n_three, n_lm, 3): derivatives of this neighbour's own moments.
    out
        (n_features, 3), 1/Angstrom times the feature's unit.
    """
    n_two = basis.two_table.shape[0]
    n_three = basis.three_table.shape[0]
    degrees = basis.norm.shape[0]
    channels = work.moments.shape[0]
    r = work.distance[neighbour]
    out[:] = 0.0
    for k in range(n_two):
        for c in range(3):
            unit = work.vector[neighbour, c] / r
            out[species_j * n_two + k, c] = work.two_slope[neighbour, k] * unit
    if r >= basis.cutoff_three:
        return
    for k in range(n_three):
        value, slope = work.three[neighbour, k], work.three_slope[neighbour, k]
        for degree in range(degrees):
            for lm in range(degree * degree, (degree + 1) * (degree + 1)):
                harmonic = work.harmonic[neighbour, lm]
                # The gradient of Y_lm(r/|r|) is that of the solid harmonic minus its radial part.
                radial = slope * harmonic - degree * value * harmonic / r
                for c in range(3):
                    moment[k, lm, c] = (
                        radial * work.vector[neighbour, c] / r
                        + value * work.harmonic_gradient[neighbour, lm, c] / r
                    )
    for e in range(basis.mixing.first[species_j], basis.mixing.first[species_j + 1]):
        mine, weight = basis.mixing.channel[e] * n_three, basis.mixing.weight[e]
        for k in range(n_three):
            c = mine + k
            for other in range(channels):
                low, high = min(c, other), max(c, other)
                pair = low * channels - low * (low - 1) // 2 + high - low
                factor = 2.0 * weight if other == c else weight
                f = basis.n_species * n_two + pair * degrees
                for degree in range(degrees):
                    for lm in range(degree * degree, (degree + 1) * (degree + 1)):
                        for d in range(3):
                            out[f + degree, d] += (
                                factor * work.moments[other, lm] * moment[k, lm, d]
                            )
        _four_body_gradient(mine, n_three, weight, basis, work, moment, out)


@inner_kernel
def _four_body_gradient(
    first_channel: int,
    n_three: int,
    weight: float,
    basis: Basis,
    work: Workspace,
    moment: Floats,
    out: Floats,
) -> None:
    """The same for the four-body features, from their Jacobian in the workspace."""
    four = basis.four
    n_lm = basis.norm.shape[0] ** 2
    low = out.shape[0] - four.first.shape[0] + 1
    start, end = first_channel * n_lm, (first_channel + n_three) * n_lm
    for f in range(four.first.shape[0] - 1):
        for e in range(four.touched_first[f], four.touched_first[f + 1]):
            q = four.touched[e]
            if start <= q < end:
                k, lm = (q - start) // n_lm, (q - start) % n_lm
                for d in range(3):
                    out[low + f, d] += weight * work.four_jacobian[e] * moment[k, lm, d]

r"""Energies of atoms, and forces and virial by the adjoint of the descriptor.

.. math::

   E_i = c_g + w_g \cdot V_i + z_i^T B_g z_i + u_g \cdot V_i^{(4)}, \qquad z_i = P_g V_i - z_g

with V the two- and three-body features and V^(4) the four-body ones. The energy of an atom with
bonds of weight w < 1 (:mod:`otf.kernels.bonds`) lies between that of its group and that of its
species, :math:`w E_g + (1 - w) E_s`. With
:math:`\partial E_i / \partial V = w + 2 P^T B z` one backward pass of the chain rule gives:

==========================================  =======================
formula                                     code
==========================================  =======================
E_i and dE_i/dV                             :func:`_low_energy`
w E_g + (1 - w) E_s                         :func:`_blended_energy`
dE_i/dA_{c,lm}, and by species              :func:`_group_energy`
dE_i/dr_j                                   :func:`_fill_gradients`
F_i                                         :func:`gather_forces`, :func:`scatter_forces`
==========================================  =======================

Both passes process a range of atoms and write only to that range, so ranges can run in parallel
with bitwise identical results. They do not allocate.
"""

from typing import NamedTuple

from otf.arrays import Floats, Ints
from otf.kernels.descriptor import Basis, Neighbours
from otf.kernels.four_body import four_body_adjoint
from otf.kernels.generated import add_virial, pair_gradients, spectrum_adjoint
from otf.kernels.jit import inlined, kernel, ordered_kernel
from otf.kernels.pages import Pages, fill_pages, groups, low_features
from otf.kernels.shapes import FX, FY, FZ, X


class Tensors(NamedTuple):
    """Coefficients of each group of atoms for raw (not standardised) features.

    Attributes
    ----------
    constant
        (groups,), eV.
    linear
        (groups, low features), eV.
    projection
        (groups, components, low features): rows P_g.
    offset
        (groups, components): z_g.
    quadratic
        (groups, components, components), symmetric, eV.
    four
        (groups, terms of the four-body features), eV; no columns if they are not used.
    """

    constant: Floats
    linear: Floats
    projection: Floats
    offset: Floats
    quadratic: Floats
    four: Floats


class Membership(NamedTuple):
    """The group of each atom, and how firmly it belongs to it.

    Attributes
    ----------
    group
        (N,) row of the tensors; the first rows are those of the species.
    weight
        (N,) 1 for an atom of its group, 0 for one that has only the energy of its species.
    slope
        (P,) derivative of the weight by the distance of each pair, 1/Angstrom.
    """

    group: Ints
    weight: Floats
    slope: Floats


@inlined
def _low_energy(group: int, tensors: Tensors, pages: Pages) -> float:
    """E_i without its four-body part; stores dE_i/dV in ``pages.gradient``."""
    features, gradient, z, bz = pages.features, pages.gradient, pages.z, pages.bz
    low = gradient.shape[0]
    energy = float(tensors.constant[group])
    # Sums and stores in loops of their own: a loop with both is compiled in two orders of
    # summation, one of them for arrays that lie close together in memory.
    for f in range(low):
        energy += tensors.linear[group, f] * features[f]
    for f in range(low):
        gradient[f] = tensors.linear[group, f]
    components = tensors.offset.shape[1]
    for p in range(components):
        total = -tensors.offset[group, p]
        for f in range(low):
            total += tensors.projection[group, p, f] * features[f]
        z[p] = total
    for p in range(components):
        total = 0.0
        for q in range(components):
            total += tensors.quadratic[group, p, q] * z[q]
        bz[p] = total
        energy += z[p] * total
    for p in range(components):
        for f in range(low):
            gradient[f] += 2.0 * bz[p] * tensors.projection[group, p, f]
    return energy


@inlined
def _group_energy(group: int, basis: Basis, tensors: Tensors, pages: Pages) -> float:
    """E_i with the coefficients of a group; stores dE_i/dV and dE_i/dA in the pages."""
    energy = _low_energy(group, tensors, pages)
    channels = basis.mixing.channels * basis.three_table.shape[0]
    two = basis.n_species * basis.two_table.shape[0]
    spectrum_adjoint(pages.shape, channels, pages.moments, pages.gradient, two, pages.adjoint)
    if tensors.four.shape[1] > 0:
        energy += four_body_adjoint(basis.four, tensors.four[group], pages.moments, pages.adjoint)
    return float(energy)


@inlined
def _blended_energy(
    i: int, species_i: int, membership: Membership, basis: Basis, tensors: Tensors, pages: Pages
) -> tuple[float, float]:
    """E_i, its derivatives by V and A in the pages, and its derivative by the weight of i."""
    weight, group = membership.weight[i], membership.group[i]
    energy = by_weight = 0.0
    for plain in range(1 if weight >= 1.0 else 2):  # the energy of its group, then of its species
        if plain > 0:
            by_weight, group = energy, species_i
            for k in range(pages.gradient.shape[0]):
                pages.kept_gradient[k] = weight * pages.gradient[k]
            for k in range(pages.adjoint.shape[0]):
                pages.kept_adjoint[k] = weight * pages.adjoint[k]
        energy = _group_energy(group, basis, tensors, pages)
    if weight < 1.0:
        for k in range(pages.gradient.shape[0]):
            pages.gradient[k] = pages.kept_gradient[k] + (1.0 - weight) * pages.gradient[k]
        for k in range(pages.adjoint.shape[0]):
            pages.adjoint[k] = pages.kept_adjoint[k] + (1.0 - weight) * pages.adjoint[k]
        by_weight -= energy
    return energy + weight * by_weight, by_weight


@inlined
def _fill_gradients(basis: Basis, pages: Pages) -> None:
    """dE_i/dr_j of all neighbours in the pages, from dE_i/dV and dE_i/dA."""
    mixing, own = basis.mixing, pages.own
    for s in range(basis.n_species):
        for k in range(own.shape[0]):
            own[k] = 0.0
        for e in range(mixing.first[s], mixing.first[s + 1]):
            start, weight = mixing.channel[e] * own.shape[0], mixing.weight[e]
            for k in range(own.shape[0]):
                own[k] += weight * pages.adjoint[start + k]
        every, near, two = groups(pages.within[s]), groups(pages.near[s]), basis.two_table.shape[0]
        pair_gradients(pages.shape, every, near, pages.page[s], pages.gradient, s * two, own)


@inlined
def _add_by_weight(by_weight: float, slope: Floats, basis: Basis, pages: Pages) -> None:
    """Add the derivatives through the weight of the atom, with that of E_i by the weight."""
    width = pages.slot.shape[1]
    for s in range(basis.n_species):
        for column in range(pages.within[s]):
            along = by_weight * slope[pages.slot[s, column]]
            for axis in range(3):
                unit = pages.page[s, (X + axis) * width + column]
                pages.page[s, (FX + axis) * width + column] += along * unit


@kernel
def energies_and_pairs(
    start: int,
    stop: int,
    positions: Floats,
    species: Ints,
    membership: Membership,
    neighbours: Neighbours,
    basis: Basis,
    tensors: Tensors,
    pages: Pages,
    energies: Floats,
    pairs: Floats,
    virial: Floats,
) -> None:
    """Energies of atoms start to stop and their derivatives by neighbour positions.

    Parameters
    ----------
    start, stop
        The range of atoms.
    positions
        (N, 3), Angstrom.
    species
        (N,) channel of each atom when it is a neighbour, and row of the tensors of its species.
    membership
        Row of the tensors for each atom when it is a centre, with its weight.
    neighbours, basis, tensors
        The neighbour list (covering the cutoffs), the descriptor, the coefficients.
    pages
        Buffers, not shared with concurrent calls.
    energies
        (N,) eV; the range is filled.
    pairs
        (P, 3) dE_i/dr_j for the pairs of the list, eV/Angstrom; those of the range are filled.
    virial
        (3, 3) dE/dstrain of the range, eV; filled.
    """
    width = pages.slot.shape[1]
    virial[:] = 0.0
    for i in range(start, stop):
        fill_pages(i, positions, species, neighbours, basis, pages)
        low_features(basis, pages)
        energies[i], by_weight = _blended_energy(i, species[i], membership, basis, tensors, pages)
        _fill_gradients(basis, pages)
        if by_weight != 0.0:
            _add_by_weight(by_weight, membership.slope, basis, pages)
        for slot in range(neighbours.first[i], neighbours.first[i + 1]):
            pairs[slot, 0], pairs[slot, 1], pairs[slot, 2] = 0.0, 0.0, 0.0
        for s in range(basis.n_species):
            page = pages.page[s]
            for column in range(pages.within[s]):
                slot = pages.slot[s, column]
                pairs[slot, 0] = page[FX * width + column]
                pairs[slot, 1] = page[FY * width + column]
                pairs[slot, 2] = page[FZ * width + column]
            add_virial(pages.shape, groups(pages.within[s]), page, virial)


@ordered_kernel
def scatter_forces(
    start: int, stop: int, neighbours: Neighbours, pairs: Floats, forces: Floats
) -> None:
    """Add the contributions of the energies of atoms start to stop to all forces (N, 3)."""
    for i in range(start, stop):
        for slot in range(neighbours.first[i], neighbours.first[i + 1]):
            j = neighbours.indices[slot]
            for c in range(3):
                forces[i, c] += pairs[slot, c]
                forces[j, c] -= pairs[slot, c]


@ordered_kernel
def gather_forces(
    start: int, stop: int, neighbours: Neighbours, pairs: Floats, own_only: bool, forces: Floats
) -> None:
    """Forces (N, 3) of atoms start to stop from the derivatives of all pairs.

    Parameters
    ----------
    own_only
        Use only the derivative of each atom's own energy, without those of its neighbours.

    Notes
    -----
    The list may hold pairs beyond the cutoff, within its skin; their derivatives are zero.
    """
    for i in range(start, stop):
        x, y, z = 0.0, 0.0, 0.0
        for slot in range(neighbours.first[i], neighbours.first[i + 1]):
            x += pairs[slot, 0]
            y += pairs[slot, 1]
            z += pairs[slot, 2]
        if not own_only:
            for slot in range(neighbours.first[i], neighbours.first[i + 1]):
                back = neighbours.reverse[slot]
                x -= pairs[back, 0]
                y -= pairs[back, 1]
                z -= pairs[back, 2]
        forces[i, 0] = x
        forces[i, 1] = y
        forces[i, 2] = z

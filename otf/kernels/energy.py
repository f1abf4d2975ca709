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
E_i and dE_i/dV                             :func:`_atom_energy`
dE_i/dA_{c,lm}, and by species              :func:`_moment_adjoint`, :func:`_adjoint_by_species`
dE_i/dr_j and the virial                    :func:`energies_and_pairs`
F_i                                         :func:`gather_forces`, :func:`scatter_forces`
==========================================  =======================

Both passes process a range of atoms and write only to that range, so ranges can run in parallel
with bitwise identical results. They do not allocate.
"""

from typing import NamedTuple

from otf.arrays import Floats, Ints
from otf.kernels.descriptor import (
    Basis,
    Neighbours,
    Workspace,
    power_spectrum,
    visit_neighbours,
)
from otf.kernels.four_body import four_body_adjoint
from otf.kernels.jit import kernel, ordered_kernel


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
        (groups, four-body features), eV; no columns if they are not used.
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


@kernel
def _atom_energy(group: int, tensors: Tensors, work: Workspace) -> float:
    """E_i without its four-body part; stores dE_i/dV in ``work.gradient``."""
    features, gradient, z, bz = work.features, work.gradient, work.z, work.bz
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


@kernel
def _moment_adjoint(basis: Basis, work: Workspace) -> None:
    """dE_i/dA_{c,lm} from dE_i/dV_{cc'l}."""
    gradient, adjoint = work.gradient, work.adjoint
    degrees = basis.norm.shape[0]
    channels = work.moments.shape[0]
    adjoint[:] = 0.0
    f = basis.n_species * basis.two_table.shape[0]
    for c in range(channels):
        for other in range(c, channels):
            for degree in range(degrees):
                g = gradient[f]
                f += 1
                for lm in range(degree * degree, (degree + 1) * (degree + 1)):
                    adjoint[c, lm] += g * work.moments[other, lm]
                    adjoint[other, lm] += g * work.moments[c, lm]


@kernel
def _adjoint_by_species(basis: Basis, work: Workspace) -> None:
    """dE_i/dA of the channels, summed with the weights of each species."""
    n_three, mixing = basis.three_table.shape[0], basis.mixing
    work.by_species[:] = 0.0
    for s in range(basis.n_species):
        for e in range(mixing.first[s], mixing.first[s + 1]):
            channel, weight = mixing.channel[e] * n_three, mixing.weight[e]
            for k in range(n_three):
                for lm in range(work.adjoint.shape[1]):
                    work.by_species[s * n_three + k, lm] += weight * work.adjoint[channel + k, lm]


@kernel
def _pair_gradient(slot: int, s: int, basis: Basis, work: Workspace, pair: Floats) -> None:
    """dE_i/dr_j for the neighbour in row ``slot`` of the workspace, of species s, into ``pair``."""
    gradient, adjoint = work.gradient, work.by_species
    n_two = basis.two_table.shape[0]
    n_three = basis.three_table.shape[0]
    degrees = basis.norm.shape[0]
    r = work.distance[slot]
    radial = 0.0
    for k in range(n_two):
        radial += gradient[s * n_two + k] * work.two_slope[slot, k]
    tx, ty, tz = 0.0, 0.0, 0.0
    if r < basis.cutoff_three:
        for degree in range(degrees):
            for lm in range(degree * degree, (degree + 1) * (degree + 1)):
                by_value, by_slope = 0.0, 0.0
                for k in range(n_three):
                    a = adjoint[s * n_three + k, lm]
                    by_value += a * work.three[slot, k]
                    by_slope += a * work.three_slope[slot, k]
                radial += (by_slope - degree * by_value / r) * work.harmonic[slot, lm]
                tx += by_value * work.harmonic_gradient[slot, lm, 0]
                ty += by_value * work.harmonic_gradient[slot, lm, 1]
                tz += by_value * work.harmonic_gradient[slot, lm, 2]
    pair[0] = (radial * work.vector[slot, 0] + tx) / r
    pair[1] = (radial * work.vector[slot, 1] + ty) / r
    pair[2] = (radial * work.vector[slot, 2] + tz) / r


@kernel
def _group_energy(group: int, basis: Basis, tensors: Tensors, work: Workspace) -> float:
    """E_i with the coefficients of a group; stores its derivatives in the workspace."""
    energy = _atom_energy(group, tensors, work)
    _moment_adjoint(basis, work)
    if tensors.four.shape[1] > 0:
        energy += four_body_adjoint(
            basis.four, tensors.four[group], work.moments.ravel(), work.adjoint.ravel()
        )
    _adjoint_by_species(basis, work)
    return float(energy)


@kernel
def _add_pairs(
    count: int, share: float, species: Ints, basis: Basis, work: Workspace, pairs: Floats
) -> None:
    """Add a share of the derivatives by the ``count`` neighbours in the workspace to the pairs."""
    pair = work.pair
    for row in range(count):
        _pair_gradient(row, species[work.atom[row]], basis, work, pair)
        for c in range(3):
            pairs[work.slot[row], c] += share * pair[c]


@kernel
def energies_and_pairs(
    start: int,
    stop: int,
    positions: Floats,
    cell: Floats,
    species: Ints,
    membership: Membership,
    neighbours: Neighbours,
    basis: Basis,
    tensors: Tensors,
    work: Workspace,
    energies: Floats,
    pairs: Floats,
    virial: Floats,
) -> None:
    """Energies of atoms start to stop and their derivatives by neighbour positions.

    Parameters
    ----------
    start, stop
        The range of atoms.
    positions, cell
        (N, 3) and (3, 3), Angstrom.
    species
        (N,) channel of each atom when it is a neighbour, and row of the tensors of its species.
    membership
        Row of the tensors for each atom when it is a centre, with its weight.
    neighbours, basis, tensors
        The neighbour list (covering the cutoffs), the descriptor, the coefficients.
    work
        Buffers, not shared with concurrent calls.
    energies
        (N,) eV; the range is filled.
    pairs
        (P, 3) dE_i/dr_j for the pairs of the list, eV/Angstrom; those of the range are filled.
    virial
        (3, 3) dE/dstrain of the range, eV; filled.
    """
    virial[:] = 0.0
    for i in range(start, stop):
        count = visit_neighbours(i, positions, cell, species, neighbours, basis, work)
        power_spectrum(basis, work)
        pairs[neighbours.first[i] : neighbours.first[i + 1]] = 0.0
        weight = membership.weight[i]
        energy = _group_energy(membership.group[i], basis, tensors, work)
        _add_pairs(count, weight, species, basis, work, pairs)
        if weight < 1.0:
            plain = _group_energy(species[i], basis, tensors, work)
            _add_pairs(count, 1.0 - weight, species, basis, work, pairs)
            for row in range(count):
                slot = work.slot[row]
                by_length = (energy - plain) * membership.slope[slot] / work.distance[row]
                for c in range(3):
                    pairs[slot, c] += by_length * work.vector[row, c]
            energy = weight * energy + (1.0 - weight) * plain
        energies[i] = energy
        for row in range(count):
            for c in range(3):
                for d in range(3):
                    virial[c, d] += pairs[work.slot[row], c] * work.vector[row, d]


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

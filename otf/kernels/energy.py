r"""Energies of atoms, and forces and virial by the adjoint of the descriptor.

.. math:: E_i = c_g + w_g \cdot V_i + z_i^T B_g z_i, \qquad z_i = P_g V_i - z_g

With :math:`g = \partial E_i / \partial V = w + 2 P^T B z` the chain rule runs backwards once:

==========================================  =======================
formula                                     code
==========================================  =======================
E_i and dE_i/dV                             :func:`_atom_energy`
dE_i/dA_{c,lm}                              :func:`_moment_adjoint`
dE_i/dr_j, F and the virial                 :func:`energy_forces`
==========================================  =======================
"""

from typing import NamedTuple

import numpy as np

from otf.arrays import Floats, Ints
from otf.kernels.descriptor import (
    Basis,
    Neighbours,
    Workspace,
    make_workspace,
    power_spectrum,
    visit_neighbours,
)
from otf.kernels.jit import kernel


class Tensors(NamedTuple):
    """Coefficients for each group of atoms, acting on raw (not standardised) features.

    Attributes
    ----------
    constant
        (groups,), eV.
    linear
        (groups, features), eV.
    projection
        (groups, components, features): rows P_g.
    offset
        (groups, components): z_g.
    quadratic
        (groups, components, components), symmetric, eV.
    """

    constant: Floats
    linear: Floats
    projection: Floats
    offset: Floats
    quadratic: Floats


@kernel
def _atom_energy(
    group: int, tensors: Tensors, features: Floats, z: Floats, bz: Floats, gradient: Floats
) -> float:
    """E_i, with dE_i/dV left in ``gradient``."""
    energy = float(tensors.constant[group])
    for f in range(features.shape[0]):
        gradient[f] = tensors.linear[group, f]
        energy += gradient[f] * features[f]
    components = z.shape[0]
    for p in range(components):
        total = -tensors.offset[group, p]
        for f in range(features.shape[0]):
            total += tensors.projection[group, p, f] * features[f]
        z[p] = total
    for p in range(components):
        total = 0.0
        for q in range(components):
            total += tensors.quadratic[group, p, q] * z[q]
        bz[p] = total
        energy += z[p] * total
    for p in range(components):
        for f in range(features.shape[0]):
            gradient[f] += 2.0 * bz[p] * tensors.projection[group, p, f]
    return energy


@kernel
def _moment_adjoint(basis: Basis, work: Workspace, gradient: Floats, adjoint: Floats) -> None:
    """dE_i/dA_{c,lm} from dE_i/dV_{cc'l}."""
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
def _pair_force(
    slot: int,
    s: int,
    basis: Basis,
    work: Workspace,
    gradient: Floats,
    adjoint: Floats,
    pair: Floats,
) -> None:
    """dE_i/dr_j for the neighbour in row ``slot``, of species s, into ``pair``."""
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
def energy_forces(
    positions: Floats,
    cell: Floats,
    species: Ints,
    group: Ints,
    neighbours: Neighbours,
    basis: Basis,
    tensors: Tensors,
) -> tuple[Floats, Floats, Floats]:
    """Energies (N,) eV, forces (N, 3) eV/Angstrom and dE/dstrain (3, 3) eV.

    Parameters
    ----------
    positions, cell
        (N, 3) and (3, 3), Angstrom.
    species
        (N,) channel of each atom as a neighbour.
    group
        (N,) row of the tensors each atom uses as a centre.
    neighbours, basis, tensors
        The neighbour list (at least as long as the cutoffs), the descriptor, the coefficients.
    """
    n = positions.shape[0]
    energies = np.empty(n)
    forces = np.zeros((n, 3))
    virial = np.zeros((3, 3))
    work = make_workspace(basis, max(1, np.max(np.diff(neighbours.first))))
    gradient = np.empty(work.features.shape[0])
    adjoint = np.empty(work.moments.shape)
    z = np.empty(tensors.offset.shape[1])
    bz = np.empty(tensors.offset.shape[1])
    pair = np.empty(3)
    for i in range(n):
        count = visit_neighbours(i, positions, cell, species, neighbours, basis, work)
        power_spectrum(basis, work)
        energies[i] = _atom_energy(group[i], tensors, work.features, z, bz, gradient)
        _moment_adjoint(basis, work, gradient, adjoint)
        for slot in range(count):
            j = work.atom[slot]
            _pair_force(slot, species[j], basis, work, gradient, adjoint, pair)
            for c in range(3):
                forces[j, c] -= pair[c]
                forces[i, c] += pair[c]
                for d in range(3):
                    virial[c, d] += pair[c] * work.vector[slot, d]
    return energies, forces, virial

r"""Features of all atoms and design-matrix rows of the linear problem.

A block g of coefficients acts on [1, v (features), z_p z_q (p <= q)], with the standardised
features :math:`v = (V - \mu_g) / \sigma_g` and the principal components :math:`z = U_g v` of the
two- and three-body ones. An atom may belong to several blocks, whose energies are summed; all but
that of its species are multiplied by the weight of its bonds (:mod:`otf.kernels.bonds`). The
columns of all constants and linear parts come first, then those of all quadratic parts.

=======================================================  ==================
formula                                                  code
=======================================================  ==================
energy row, sum_i phi_i                                  ``rows[0]``
force rows, -d/dr_{ja} sum_i phi_i                       ``rows[1 + 3j + a]``
strain rows, d/deps_{ab} sum_i phi_i (3 x 3)             ``rows[1 + 3N + 3a + b]``
=======================================================  ==================
"""

from typing import NamedTuple

import numpy as np

from otf.arrays import Floats, Ints
from otf.kernels.descriptor import (
    Basis,
    Neighbours,
    Workspace,
    feature_gradient,
    power_spectrum,
    visit_neighbours,
)
from otf.kernels.four_body import four_body_features, four_body_jacobian
from otf.kernels.jit import inner_kernel, kernel


class Standard(NamedTuple):
    """Standardisation of the features in each block.

    Attributes
    ----------
    mean, scale
        (blocks, features): mu_g and sigma_g.
    components
        (blocks, components, low features): U_g, orthogonal rows, the first of unit variance.
    """

    mean: Floats
    scale: Floats
    components: Floats


def linear_width(standard: Standard) -> int:
    """Number of columns of the constant and linear part of one block."""
    return 1 + int(standard.mean.shape[1])


def quadratic_width(standard: Standard) -> int:
    """Number of columns of the quadratic part of one block."""
    components = int(standard.components.shape[1])
    return components * (components + 1) // 2


@kernel
def all_features(
    positions: Floats,
    species: Ints,
    neighbours: Neighbours,
    basis: Basis,
    work: Workspace,
) -> Floats:
    """Raw features V of every atom, (N, features)."""
    n = positions.shape[0]
    out = np.empty((n, work.features.shape[0]))
    for i in range(n):
        visit_neighbours(i, positions, species, neighbours, basis, work)
        power_spectrum(basis, work)
        four_body_features(basis.four, work.moments.ravel(), work.features)
        for f in range(work.features.shape[0]):
            out[i, f] = work.features[f]
    return out


@inner_kernel
def _columns(g: int, standard: Standard, work: Workspace, z: Floats, out: Floats) -> None:
    """phi_i without its constant into ``out``, and the principal components into ``z``."""
    z[:] = 0.0
    low = standard.components.shape[2]
    column = work.features.shape[0]
    for f in range(column):
        v = (work.features[f] - standard.mean[g, f]) / standard.scale[g, f]
        out[f] = v
        if f < low:
            for p in range(z.shape[0]):
                z[p] += standard.components[g, p, f] * v
    for p in range(z.shape[0]):
        for q in range(p, z.shape[0]):
            out[column] = z[p] * z[q]
            column += 1


@inner_kernel
def _standard_gradient(
    g: int, standard: Standard, raw: Floats, by_features: Floats, by_components: Floats
) -> None:
    """Convert dV/dr_j (features, 3) to dv/dr_j (3, features) and dz/dr_j (3, components)."""
    for c in range(3):
        for f in range(raw.shape[0]):
            by_features[c, f] = raw[f, c] / standard.scale[g, f]
        for p in range(by_components.shape[1]):
            total = 0.0
            for f in range(standard.components.shape[2]):
                total += standard.components[g, p, f] * by_features[c, f]
            by_components[c, p] = total


@inner_kernel
def _accumulate(
    factor: float, by_features: Floats, by_components: Floats, sum_v: Floats, sum_z: Floats
) -> None:
    """Add a multiple of the derivatives to their sums."""
    for f in range(by_features.shape[0]):
        sum_v[f] += factor * by_features[f]
    for p in range(by_components.shape[0]):
        sum_z[p] += factor * by_components[p]


@inner_kernel
def _add(
    row: Floats,
    constant: int,
    quadratic: int,
    weight: float,
    by_features: Floats,
    by_components: Floats,
    by_weight: float,
    phi: Floats,
    z: Floats,
) -> None:
    """Add w d phi + dw phi to the columns of one block of a row.

    Parameters
    ----------
    constant, quadratic
        First columns of the block.
    weight, by_features, by_components
        w, and the derivatives of the features and of the principal components.
    by_weight, phi, z
        dw, the columns without the constant, and the principal components.
    """
    n = by_features.shape[0]
    row[constant] += by_weight
    for f in range(n):
        row[constant + 1 + f] += weight * by_features[f] + by_weight * phi[f]
    column = n
    for p in range(z.shape[0]):
        zp, dzp = weight * z[p], weight * by_components[p]
        for q in range(p, z.shape[0]):
            product = zp * by_components[q] + dzp * z[q]
            row[quadratic - n + column] += product + by_weight * phi[column]
            column += 1


@kernel
def design_rows(
    start: int,
    stop: int,
    positions: Floats,
    species: Ints,
    blocks: Ints,
    weight: Floats,
    slope: Floats,
    own_only: bool,
    neighbours: Neighbours,
    basis: Basis,
    standard: Standard,
    work: Workspace,
) -> Floats:
    """Design-matrix rows of one structure: energy, 3N forces, 9 strain derivatives.

    Parameters
    ----------
    start, stop
        The range of atoms whose energies contribute; rows of disjoint ranges add up.
    positions
        (N, 3), Angstrom.
    species
        (N,) channel of each atom when it is a neighbour.
    blocks
        (N, levels) blocks of each atom when it is a centre; -1 for none.
    weight, slope
        (N,) weight of the blocks but the first, and (P,) its derivative by the distances.
    own_only
        Force rows hold the derivative of each atom's own energy only.
    neighbours, basis, standard, work
        The neighbour list, the descriptor, the standardisation of its features, buffers.

    Returns
    -------
    (1 + 3N + 9, columns) array
        Multiplied by the coefficients (eV): energy, forces (eV/Angstrom), dE/dstrain (eV).
    """
    n = positions.shape[0]
    n_blocks, n_features = standard.mean.shape
    components = standard.components.shape[1]
    pairs = components * (components + 1) // 2
    rows = np.zeros((1 + 3 * n + 9, n_blocks * (1 + n_features + pairs)))
    moment = np.empty((basis.three_table.shape[0], basis.norm.shape[0] ** 2, 3))
    raw = np.empty((n_features, 3))
    levels = blocks.shape[1]
    phi = np.empty((levels, n_features + pairs))
    z = np.empty((levels, components))
    dv, dz = np.empty((3, n_features)), np.empty((3, components))
    # Sums over the neighbours for the rows of the atom itself (3) and of the strain (9).
    sum_v = np.empty((levels, 12, n_features))
    sum_z = np.empty((levels, 12, components))
    sum_w = np.empty((levels, 12))
    for i in range(start, stop):
        count = visit_neighbours(i, positions, species, neighbours, basis, work)
        power_spectrum(basis, work)
        moments = work.moments.ravel()
        four_body_features(basis.four, moments, work.features)
        four_body_jacobian(basis.four, moments, work.four_jacobian)
        sum_v.fill(0.0)
        sum_z.fill(0.0)
        sum_w.fill(0.0)
        for level in range(levels):
            g = blocks[i, level]
            if g >= 0:
                _columns(g, standard, work, z[level], phi[level])
        for neighbour in range(count):
            j = work.atom[neighbour]
            feature_gradient(neighbour, species[j], basis, work, moment, raw)
            for level in range(levels):
                g = blocks[i, level]
                if g < 0:
                    continue
                _standard_gradient(g, standard, raw, dv, dz)
                by_length = 0.0
                if level > 0:
                    by_length = slope[work.slot[neighbour]] / work.distance[neighbour]
                for a in range(3):
                    by_weight = by_length * work.vector[neighbour, a]
                    _accumulate(1.0, dv[a], dz[a], sum_v[level, a], sum_z[level, a])
                    sum_w[level, a] += by_weight
                    if own_only:
                        continue
                    _add(
                        rows[1 + 3 * j + a],
                        g * (1 + n_features),
                        n_blocks * (1 + n_features) + g * pairs,
                        -weight[i] if level else -1.0,
                        dv[a],
                        dz[a],
                        -by_weight,
                        phi[level],
                        z[level],
                    )
                    for b in range(3):
                        k, length = 3 + 3 * a + b, work.vector[neighbour, b]
                        _accumulate(length, dv[a], dz[a], sum_v[level, k], sum_z[level, k])
                        sum_w[level, k] += length * by_weight
        for level in range(levels):
            g = blocks[i, level]
            if g < 0:
                continue
            constant, quadratic = g * (1 + n_features), n_blocks * (1 + n_features) + g * pairs
            share = weight[i] if level else 1.0
            rows[0, constant] += share
            for f in range(n_features):
                rows[0, constant + 1 + f] += share * phi[level, f]
            for f in range(pairs):
                rows[0, quadratic + f] += share * phi[level, n_features + f]
            for k in range(3 if own_only else 12):
                _add(
                    rows[1 + 3 * i + k if k < 3 else 1 + 3 * n + k - 3],
                    constant,
                    quadratic,
                    share,
                    sum_v[level, k],
                    sum_z[level, k],
                    sum_w[level, k],
                    phi[level],
                    z[level],
                )
    return rows

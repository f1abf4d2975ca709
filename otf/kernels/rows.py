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
from otf.kernels.jit import kernel


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
    cell: Floats,
    species: Ints,
    neighbours: Neighbours,
    basis: Basis,
    work: Workspace,
) -> Floats:
    """Raw features V of every atom, (N, features)."""
    n = positions.shape[0]
    out = np.empty((n, work.features.shape[0]))
    for i in range(n):
        visit_neighbours(i, positions, cell, species, neighbours, basis, work)
        power_spectrum(basis, work)
        four_body_features(
            basis.four, work.moments.ravel(), work.features[work.gradient.shape[0] :]
        )
        out[i] = work.features
    return out


@kernel
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


@kernel
def _column_gradient(
    g: int, standard: Standard, raw: Floats, z: Floats, dz: Floats, out: Floats
) -> None:
    """Convert dV/dr_j (features, 3) to d phi/dr_j (3, columns without the constant)."""
    n_features = raw.shape[0]
    for c in range(3):
        for f in range(n_features):
            out[c, f] = raw[f, c] / standard.scale[g, f]
    for p in range(z.shape[0]):
        for c in range(3):
            total = 0.0
            for f in range(standard.components.shape[2]):
                total += standard.components[g, p, f] * out[c, f]
            dz[c, p] = total
    for c in range(3):
        column = n_features
        for p in range(z.shape[0]):
            for q in range(p, z.shape[0]):
                out[c, column] = z[p] * dz[c, q] + z[q] * dz[c, p]
                column += 1


@kernel
def _scatter(row: Floats, sign: float, values: Floats, linear: int, quadratic: int, n: int) -> None:
    """Add the columns of one block (without the constant) to a row."""
    for f in range(n):
        row[linear + f] += sign * values[f]
    for f in range(values.shape[0] - n):
        row[quadratic + f] += sign * values[n + f]


@kernel
def design_rows(
    start: int,
    stop: int,
    positions: Floats,
    cell: Floats,
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
    positions, cell
        (N, 3) and (3, 3), Angstrom.
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
    columns = np.empty((3, n_features + pairs))
    levels = blocks.shape[1]
    phi = np.empty((levels, n_features + pairs))
    z = np.empty((levels, components))
    dz = np.empty((3, components))
    low = work.gradient.shape[0]
    for i in range(start, stop):
        count = visit_neighbours(i, positions, cell, species, neighbours, basis, work)
        power_spectrum(basis, work)
        moments = work.moments.ravel()
        four_body_features(basis.four, moments, work.features[low:])
        four_body_jacobian(basis.four, moments, work.four_jacobian)
        for level in range(levels):
            g = blocks[i, level]
            if g < 0:
                continue
            share = weight[i] if level else 1.0
            linear, quadratic = g * (1 + n_features), n_blocks * (1 + n_features) + g * pairs
            _columns(g, standard, work, z[level], phi[level])
            rows[0, linear] += share
            _scatter(rows[0], share, phi[level], linear + 1, quadratic, n_features)
        for neighbour in range(count):
            j = work.atom[neighbour]
            feature_gradient(neighbour, species[j], basis, work, moment, raw)
            for level in range(levels):
                g = blocks[i, level]
                if g < 0:
                    continue
                linear = g * (1 + n_features) + 1
                quadratic = n_blocks * (1 + n_features) + g * pairs
                _column_gradient(g, standard, raw, z[level], dz, columns)
                share = weight[i] if level else 1.0
                by_length = slope[work.slot[neighbour]] / work.distance[neighbour]
                for a in range(3):
                    # d(w phi) = w dphi + phi dw; the constant has only the second term.
                    turned = by_length * work.vector[neighbour, a] if level else 0.0
                    values = columns[a]
                    if share < 1.0:
                        for f in range(values.shape[0]):
                            values[f] = share * values[f] + turned * phi[level, f]
                    rows[1 + 3 * i + a, linear - 1] += turned
                    _scatter(rows[1 + 3 * i + a], 1.0, values, linear, quadratic, n_features)
                    if own_only:
                        continue
                    rows[1 + 3 * j + a, linear - 1] -= turned
                    _scatter(rows[1 + 3 * j + a], -1.0, values, linear, quadratic, n_features)
                    for b in range(3):
                        strain = rows[1 + 3 * n + 3 * a + b]
                        length = work.vector[neighbour, b]
                        strain[linear - 1] += length * turned
                        _scatter(strain, length, values, linear, quadratic, n_features)
    return rows

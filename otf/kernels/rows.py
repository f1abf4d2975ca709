r"""Features of all atoms, and the rows of the linear problem they make.

A group g has one block of columns: [1, v (features), z_p z_q (p <= q)], with the standardised
features :math:`v = (V - \mu_g) / \sigma_g` and their principal components :math:`z = U_g v`.

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
    make_workspace,
    power_spectrum,
    visit_neighbours,
)
from otf.kernels.jit import kernel


class Standard(NamedTuple):
    """How the features of each group are standardised.

    Attributes
    ----------
    mean, scale
        (groups, features): mu_g and sigma_g.
    components
        (groups, components, features): U_g, orthogonal rows, the first of unit variance.
    """

    mean: Floats
    scale: Floats
    components: Floats


def block_width(standard: Standard) -> int:
    """Columns of one group: 1 + features + components (components + 1) / 2."""
    components, features = standard.components.shape[1:]
    return int(1 + features + components * (components + 1) // 2)


@kernel
def all_features(
    positions: Floats, cell: Floats, species: Ints, neighbours: Neighbours, basis: Basis
) -> Floats:
    """Raw features V of every atom, (N, features)."""
    n = positions.shape[0]
    work = make_workspace(basis, max(1, np.max(np.diff(neighbours.first))))
    out = np.empty((n, work.features.shape[0]))
    for i in range(n):
        visit_neighbours(i, positions, cell, species, neighbours, basis, work)
        power_spectrum(basis, work)
        out[i] = work.features
    return out


@kernel
def _energy_row(g: int, standard: Standard, work: Workspace, z: Floats, row: Floats) -> None:
    """Add phi_i to the energy row and leave the principal components in ``z``."""
    n_features = work.features.shape[0]
    row[0] += 1.0
    z[:] = 0.0
    for f in range(n_features):
        v = (work.features[f] - standard.mean[g, f]) / standard.scale[g, f]
        row[1 + f] += v
        for p in range(z.shape[0]):
            z[p] += standard.components[g, p, f] * v
    column = 1 + n_features
    for p in range(z.shape[0]):
        for q in range(p, z.shape[0]):
            row[column] += z[p] * z[q]
            column += 1


@kernel
def _column_gradient(
    g: int, standard: Standard, raw: Floats, z: Floats, dz: Floats, out: Floats
) -> None:
    """Turn dV/dr_j (features, 3) into d phi/dr_j (columns less the constant, 3)."""
    n_features = raw.shape[0]
    dz[:] = 0.0
    for f in range(n_features):
        for c in range(3):
            out[f, c] = raw[f, c] / standard.scale[g, f]
    for p in range(z.shape[0]):
        for f in range(n_features):
            u = standard.components[g, p, f]
            for c in range(3):
                dz[p, c] += u * out[f, c]
    column = n_features
    for p in range(z.shape[0]):
        for q in range(p, z.shape[0]):
            for c in range(3):
                out[column, c] = z[p] * dz[q, c] + z[q] * dz[p, c]
            column += 1


@kernel
def design_rows(
    positions: Floats,
    cell: Floats,
    species: Ints,
    group: Ints,
    neighbours: Neighbours,
    basis: Basis,
    standard: Standard,
) -> Floats:
    """Rows of one structure: energy, 3N forces, 9 strain derivatives.

    Parameters
    ----------
    positions, cell
        (N, 3) and (3, 3), Angstrom.
    species, group
        (N,) channel of each atom as a neighbour and column block as a centre.
    neighbours, basis, standard
        The neighbour list, the descriptor, and how its features are standardised.

    Returns
    -------
    (1 + 3N + 9, groups * block) array
        Multiplied by the coefficients (eV): energy, forces (eV/Angstrom), dE/dstrain (eV).
    """
    n = positions.shape[0]
    components, n_features = standard.components.shape[1], standard.components.shape[2]
    block = 1 + n_features + components * (components + 1) // 2
    rows = np.zeros((1 + 3 * n + 9, standard.mean.shape[0] * block))
    work = make_workspace(basis, max(1, np.max(np.diff(neighbours.first))))
    moment = np.empty((basis.three_table.shape[0], basis.norm.shape[0] ** 2, 3))
    raw = np.empty((n_features, 3))
    columns = np.empty((block - 1, 3))
    z = np.empty(components)
    dz = np.empty((components, 3))
    for i in range(n):
        g = group[i]
        start = g * block
        count = visit_neighbours(i, positions, cell, species, neighbours, basis, work)
        power_spectrum(basis, work)
        _energy_row(g, standard, work, z, rows[0, start : start + block])
        for slot in range(count):
            j = work.atom[slot]
            feature_gradient(slot, species[j], basis, work, moment, raw)
            _column_gradient(g, standard, raw, z, dz, columns)
            for a in range(3):
                for column in range(block - 1):
                    value = columns[column, a]
                    rows[1 + 3 * j + a, start + 1 + column] -= value
                    rows[1 + 3 * i + a, start + 1 + column] += value
                for b in range(3):
                    strain = rows[1 + 3 * n + 3 * a + b]
                    for column in range(block - 1):
                        strain[start + 1 + column] += columns[column, a] * work.vector[slot, b]
    return rows

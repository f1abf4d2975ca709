r"""Bonded pairs of a neighbour list, and how far each atom is from gaining or losing a bond.

Atoms i and j are bonded if closer than :math:`b_{ij} = \min(R_i + R_j, b)`. The weight of the bonds
of an atom is a product over all other atoms,

.. math::

   w_i = \prod_j s(|r_{ij} / b_{ij} - 1| / \delta), \qquad s(u) = u^3 (10 - 15 u + 6 u^2),
   \quad s(u \ge 1) = 1

so it is 1 for most structures, and goes to zero with two derivatives where a bond begins or ends.
"""

import numpy as np
import numpy.typing as npt

from otf.arrays import Floats
from otf.kernels.descriptor import Neighbours
from otf.kernels.jit import inner_kernel, kernel

SWITCH = 0.08
"""delta: half of the range of a bond in which the weight differs from 1, relative to its limit."""


@inner_kernel
def _distance(i: int, slot: int, positions: Floats, neighbours: Neighbours) -> float:
    """Distance from atom i to its neighbour in a slot of the list, Angstrom."""
    j = neighbours.indices[slot]
    r2 = 0.0
    for c in range(3):
        delta = positions[j, c] - positions[i, c] + neighbours.offsets[slot, c]
        r2 += delta * delta
    return float(np.sqrt(r2))


@kernel
def bonded_pairs(
    positions: Floats, radii: Floats, longest: float, neighbours: Neighbours
) -> npt.NDArray[np.bool_]:
    """Whether the atoms of each pair (P,) are bonded.

    Parameters
    ----------
    positions
        (N, 3), Angstrom.
    radii, longest
        (N,) R and b, Angstrom.
    neighbours
        The neighbour list; it covers the bonds.
    """
    out = np.empty(neighbours.indices.shape[0], np.bool_)
    for i in range(positions.shape[0]):
        for slot in range(neighbours.first[i], neighbours.first[i + 1]):
            limit = min(radii[i] + radii[neighbours.indices[slot]], longest)
            out[slot] = _distance(i, slot, positions, neighbours) < limit
    return out


@kernel
def bond_weights(
    start: int,
    stop: int,
    positions: Floats,
    radii: Floats,
    longest: float,
    neighbours: Neighbours,
    weights: Floats,
    slopes: Floats,
) -> None:
    """Weights w of the bonds of atoms start to stop, and their derivatives by the distances.

    Parameters
    ----------
    positions, radii, longest, neighbours
        See :func:`bonded_pairs`; the list covers the bonds and their switching range.
    weights, slopes
        (N,) and (P,) 1/Angstrom; those of the range are filled.
    """
    for i in range(start, stop):
        weight = 1.0
        for slot in range(neighbours.first[i], neighbours.first[i + 1]):
            limit = min(radii[i] + radii[neighbours.indices[slot]], longest)
            stretch = (_distance(i, slot, positions, neighbours) / limit - 1.0) / SWITCH
            u = abs(stretch)
            slopes[slot] = 0.0
            if u < 1.0:
                value = u * u * u * (10.0 + u * (6.0 * u - 15.0))
                slope = 30.0 * u * u * (1.0 - u) * (1.0 - u) / (SWITCH * limit)
                if value > 0.0:
                    slopes[slot] = (slope if stretch > 0.0 else -slope) / value
                weight *= value
        weights[i] = weight
        if weight < 1.0:
            for slot in range(neighbours.first[i], neighbours.first[i + 1]):
                slopes[slot] *= weight

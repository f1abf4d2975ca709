"""Bonded pairs of a neighbour list."""

import numpy as np
import numpy.typing as npt

from otf.arrays import Floats
from otf.kernels.descriptor import Neighbours
from otf.kernels.jit import kernel


@kernel
def bonded_pairs(
    positions: Floats, cell: Floats, radii: Floats, neighbours: Neighbours
) -> npt.NDArray[np.bool_]:
    """Whether the atoms of each pair (P,) are closer than the sum of their radii (N,), Angstrom."""
    out = np.empty(neighbours.indices.shape[0], np.bool_)
    for i in range(positions.shape[0]):
        for slot in range(neighbours.first[i], neighbours.first[i + 1]):
            j = neighbours.indices[slot]
            r2 = 0.0
            for c in range(3):
                delta = positions[j, c] - positions[i, c]
                for d in range(3):
                    delta += neighbours.shifts[slot, d] * cell[d, c]
                r2 += delta * delta
            reach = radii[i] + radii[j]
            out[slot] = r2 < reach * reach
    return out

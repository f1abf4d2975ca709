r"""Mulliken charges.

.. math:: q_A = Z_A - \sum_{\mu \in A} (PS)_{\mu\mu}

Source: Mulliken, J. Chem. Phys. 23, 1833 (1955).
"""

import numpy as np

from otf.arrays import Floats
from otf.orbitals.block_matrices import BlockMatrix


def mulliken_charges(density: BlockMatrix, overlap: BlockMatrix, cores: Floats) -> Floats:
    """Mulliken charges (N,) in elementary charges.

    Parameters
    ----------
    cores
        (N,) core charges: of the nuclei, minus the electrons that are not described.
    """
    products = density.on(overlap.pairs).values * overlap.values
    of_pairs = np.add.reduceat(products, overlap.starts)
    electrons = np.bincount(overlap.pairs.first, of_pairs, minlength=len(overlap.numbers))
    return np.asarray(cores - electrons)

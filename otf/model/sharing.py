"""Which atoms share their coefficients."""

import numpy as np
from ase import Atoms

from otf.arrays import Ints


def by_species(atoms: Atoms) -> Ints:
    """Group of each atom (N,): one for each species, in order of atomic number.

    >>> from ase.build import molecule
    >>> by_species(molecule("H2O"))
    array([1, 0, 0])
    """
    _, group = np.unique(atoms.numbers, return_inverse=True)
    return group.astype(np.int64)

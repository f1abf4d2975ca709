"""Orbital energies of a structure: the gap, and how many levels there are at each energy.

Of molecules, and of crystals at the centre of the Brillouin zone; closed shells.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from otf.arrays import Floats
from otf.orbitals import BlockMatrix


@dataclass(frozen=True, eq=False)
class Levels:
    """Orbital energies.

    Attributes
    ----------
    energies
        (orbitals,) eV, ascending.
    occupied
        How many of them have two electrons.
    """

    energies: Floats
    occupied: int

    @property
    def gap(self) -> float:
        """Between the highest level with electrons and the next, eV."""
        return float(self.energies[self.occupied] - self.energies[self.occupied - 1])

    def density(self, grid: Floats, width: float) -> Floats:
        """Levels per eV (grid,), each a Gaussian of this standard deviation, eV."""
        x = (grid[:, None] - self.energies[None, :]) / width
        return np.asarray(np.exp(-0.5 * x * x).sum(axis=1) / (width * np.sqrt(2.0 * np.pi)))


def levels_of(hamiltonian: BlockMatrix, overlap: BlockMatrix, electrons: float) -> Levels:
    """Orbital energies of a Hamiltonian.

    Raises
    ------
    ValueError
        If the overlap is not positive definite, as it must be, or all orbitals are full.
    """
    dense = overlap.dense()
    occupied = round(electrons / 2)
    if occupied >= len(dense):
        raise ValueError("there are no empty orbitals")
    try:
        energies = scipy.linalg.eigh(hamiltonian.dense(), dense, eigvals_only=True)
    except np.linalg.LinAlgError as error:
        raise ValueError("the overlap is not positive definite") from error
    return Levels(np.asarray(energies), occupied)

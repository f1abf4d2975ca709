"""Orbital energies of a structure, its gap and density of states.

Closed shells. Levels of a crystal are those of all its k points.
"""

from dataclasses import dataclass

import numpy as np

from otf.arrays import Floats
from otf.electrons import bloch
from otf.orbitals.block_matrices import BlockMatrix

_HALFWAY = 0.5
_WIDTHS = 10.0  # a gap of more widths has no thermally excited electrons


@dataclass(frozen=True, eq=False)
class Levels:
    """Orbital energies.

    Attributes
    ----------
    energies
        (levels,) eV, ascending.
    weights
        (levels,): 1 for a molecule; for a crystal those of one band sum to 1.
    occupied
        Number of doubly occupied levels; for a metal, of levels below the Fermi level.
    fermi_level
        eV; in a gap, its middle.
    """

    energies: Floats
    weights: Floats
    occupied: int
    fermi_level: float

    @property
    def gap(self) -> float:
        """Gap between the highest occupied and the lowest unoccupied level, eV."""
        return float(self.energies[self.occupied] - self.energies[self.occupied - 1])

    def density(self, grid: Floats, width: float) -> Floats:
        """Density of states (grid,) per eV, with Gaussian broadening of this width (eV)."""
        x = (grid[:, None] - self.energies[None, :]) / width
        return np.asarray(np.exp(-0.5 * x * x) @ self.weights / (width * np.sqrt(2.0 * np.pi)))


def levels_of(
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    electrons: float,
    kpoints: Floats | None = None,
    *,
    smearing_eV: float = 0.0,
    methfessel_paxton: int | None = None,
) -> Levels:
    """Orbital energies of a Hamiltonian.

    Parameters
    ----------
    kpoints
        (K, 3), fractional, for a crystal; None for a molecule.
    smearing_eV, methfessel_paxton
        Occupations that determine the Fermi level of a metal, see :mod:`otf.electrons.bloch`.

    Raises
    ------
    ValueError
        If the overlap is not positive definite, or all orbitals are occupied.
    """
    at = np.zeros((1, 3)) if kpoints is None else kpoints
    bands, of_k = bloch.levels(hamiltonian, overlap, at)
    energies, weights = bands.ravel(), np.repeat(of_k, bands.shape[1])
    order = np.argsort(energies, kind="stable")
    energies, weights = energies[order], weights[order]
    occupied = int(np.sum(np.cumsum(weights) < 0.5 * electrons + _HALFWAY * of_k.min()))
    if occupied >= len(energies):
        raise ValueError("there are no empty orbitals")
    below, above = energies[occupied - 1 : occupied + 1]
    fermi = 0.5 * float(below + above)
    if kpoints is not None and above - below < _WIDTHS * smearing_eV:
        fermi = bloch.fermi_level(
            bands, of_k, electrons, smearing_eV, methfessel_paxton=methfessel_paxton
        )
    return Levels(energies, weights, occupied, fermi)

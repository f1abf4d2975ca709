"""Which atoms share their coefficients."""

from typing import Protocol

import numpy as np
from ase import Atoms

from otf.arrays import Ints


class Sharing(Protocol):
    """Sorts the atoms of a structure into groups with common coefficients."""

    @property
    def n_groups(self) -> int:
        """How many groups there are, whether or not a structure has atoms in all of them."""
        ...

    def groups(self, atoms: Atoms) -> Ints:
        """Group of each atom (N,)."""
        ...


class SpeciesSharing:
    """One group for each species.

    Parameters
    ----------
    species
        Atomic numbers, ascending.

    Examples
    --------
    >>> from ase.build import molecule
    >>> SpeciesSharing(np.array([1, 6, 8])).groups(molecule("H2O"))
    array([2, 0, 0])
    """

    def __init__(self, species: Ints) -> None:
        self.species = species
        self._numbers: Ints = np.zeros(0, dtype=np.int64)
        self._groups: Ints = np.zeros(0, dtype=np.int64)

    @property
    def n_groups(self) -> int:
        """One for each species."""
        return len(self.species)

    def groups(self, atoms: Atoms) -> Ints:
        """Index of each atom's species (N,); the same structure's is remembered.

        Raises
        ------
        ValueError
            If an atom's species is not among those known.
        """
        if not np.array_equal(atoms.numbers, self._numbers):
            numbers = np.array(atoms.numbers, dtype=np.int64)
            groups = np.searchsorted(self.species, numbers).astype(np.int64)
            known = self.species[np.minimum(groups, len(self.species) - 1)] == numbers
            if not known.all():
                stranger = int(numbers[~known][0])
                raise ValueError(f"the model has no species with atomic number {stranger}")
            self._numbers, self._groups = numbers, groups
        return self._groups

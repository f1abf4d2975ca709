"""Ghosts of a SIESTA input file: sites with basis functions, but without an atom.

Manual, block ``ChemicalSpeciesLabel``: species of negative atomic number. As in SIESTA's own
dynamics, they stay where they are.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.engines.input_deck import Deck
from otf_siesta.geometry import read_structure, species_elements, species_of_sites


def has_ghosts(deck: Deck) -> bool:
    """Whether an input file has ghosts.

    Raises
    ------
    EngineError
        If its structure cannot be read.
    """
    elements = species_elements(deck)
    return any(label not in elements for label in species_of_sites(deck))


@dataclass(frozen=True, eq=False)
class Ghosts:
    """Ghosts among the sites of an input file.

    Attributes
    ----------
    labels
        Species labels of the ghosts.
    positions
        Their positions (M, 3), Angstrom.
    mask
        Which sites are ghosts.
    """

    labels: tuple[str, ...]
    positions: Floats
    mask: np.ndarray[tuple[int], np.dtype[np.bool_]]

    @classmethod
    def of(cls, deck: Deck, n_atoms: int) -> "Ghosts":
        """Ghosts of an input file, in their places if it has as many atoms, else behind them.

        Raises
        ------
        EngineError
            If its structure cannot be read.
        """
        labels, elements = species_of_sites(deck), species_elements(deck)
        mask = np.array([label not in elements for label in labels], dtype=bool)
        if not mask.any():
            return cls((), np.zeros((0, 3)), np.zeros(n_atoms, dtype=bool))
        positions = read_structure(deck).positions[mask]
        ghosts = tuple(label for label in labels if label not in elements)
        if n_atoms != np.count_nonzero(~mask):
            mask = np.arange(n_atoms + len(ghosts)) >= n_atoms
        return cls(ghosts, positions, mask)

    def with_labels(self, labels: list[str]) -> list[str]:
        """Species labels of all sites, from those of the atoms."""
        atoms, ghosts = iter(labels), iter(self.labels)
        return [next(ghosts) if ghost else next(atoms) for ghost in self.mask]

    def added(self, atoms: Atoms) -> Atoms:
        """A structure with the ghosts as atoms of element X; itself if there are none."""
        if not self.labels:
            return atoms
        whole = Atoms(["X"] * len(self.mask), cell=atoms.cell, pbc=atoms.pbc)
        whole.numbers[~self.mask] = atoms.numbers
        whole.positions[~self.mask] = atoms.positions
        whole.positions[self.mask] = self.positions
        return whole

    def without(self, rows: Floats) -> Floats:
        """Rows of all sites (N + M, 3), for the atoms alone."""
        return rows[~self.mask]

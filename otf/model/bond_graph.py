"""Classes of atoms by their element and the elements bonded to them."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from otf.arrays import Floats, Ints
from otf.kernels.bonds import SWITCH, bond_weights, bonded_pairs
from otf.kernels.descriptor import Neighbours
from otf.model.neighbours import NeighbourCache

STRETCH = 1.4
"""Largest bond length in units of the sum of covalent radii. It and its switching range lie between
the bonds and the closest non-bonded neighbours: vibrations must not enter the range, where few
labels determine the coefficients of environments. In metals, which have no such separation of
distances, they do."""

LONGEST_A = 3.3
"""Longest bond, Angstrom: within its switching range, atoms are neighbours in any descriptor."""


class BondGraph:
    """Assigns a class to each atom; classes are cached as long as the bonds do not change.

    Parameters
    ----------
    longest_A
        Longest bond, whatever the radii; 0 for no bonds: the class of an atom is its element.

    Examples
    --------
    >>> from ase.build import molecule
    >>> BondGraph().classes(molecule("CH3OH"))
    ('C(HHHO)', 'O(CH)', 'H(C)', 'H(O)', 'H(C)', 'H(C)')
    """

    def __init__(self, longest_A: float = LONGEST_A) -> None:
        self.longest_A = longest_A
        self._cache = NeighbourCache(longest_A)
        self._numbers: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._neighbours: Neighbours | None = None
        self._bonded: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._classes: tuple[str, ...] = ()

    def classes(self, atoms: Atoms) -> tuple[str, ...]:
        """Class of each atom, such as ``C(HHHO)``."""
        if not self.longest_A:
            return tuple(atoms.symbols)
        neighbours = self._cache.of(atoms)
        bonded = bonded_pairs(atoms.positions, _radii(atoms.numbers), self.longest_A, neighbours)
        known = (
            self._neighbours is not None
            and neighbours.indices is self._neighbours.indices
            and np.array_equal(bonded, self._bonded)
            and np.array_equal(atoms.numbers, self._numbers)
        )
        if not known:
            self._numbers = atoms.numbers.copy()
            self._neighbours, self._bonded = neighbours, bonded
            self._classes = self._names()
        return self._classes

    def weights(
        self, atoms: Atoms, neighbours: Neighbours, start: int, stop: int
    ) -> tuple[Floats, Floats]:
        """Weights of the bonds of atoms start to stop, and their derivatives.

        Parameters
        ----------
        neighbours
            A list that covers the switching range of bonds.

        Returns
        -------
        weights, slopes
            (N,) and (pairs,), 1/Angstrom; see :func:`otf.kernels.bonds.bond_weights`.
        """
        weights, slopes = np.ones(len(atoms)), np.zeros(len(neighbours.indices))
        if not self.longest_A:
            return weights, slopes
        bond_weights(
            start,
            stop,
            atoms.positions,
            _radii(atoms.numbers),
            self.longest_A,
            neighbours,
            weights,
            slopes,
        )
        return weights, slopes

    def _names(self) -> tuple[str, ...]:
        assert self._neighbours is not None
        first, indices = self._neighbours.first, self._neighbours.indices
        elements = [chemical_symbols[z] for z in self._numbers]
        partners = [
            indices[start:stop][self._bonded[start:stop]] for start, stop in pairwise(first)
        ]
        return tuple(
            f"{element}({''.join(sorted(elements[j] for j in near))})"
            for element, near in zip(elements, partners, strict=True)
        )


def longest_bond_A(cutoff: float) -> float:
    """Longest bond whose switching range lies within a cutoff of the descriptor, Angstrom."""
    return min(LONGEST_A, cutoff / (1.0 + SWITCH))


def _radii(numbers: Ints) -> Floats:
    return np.asarray(STRETCH * covalent_radii[numbers])

"""Classes of atoms by their bonds (Weisfeiler-Lehman colours).

At depth 0 the class of an atom is its element; at depth d, its class at depth d - 1 and those of
its bonded neighbours. Source: Weisfeiler and Lehman, Nauchno-Technicheskaya Informatsia 2, 12
(1968).
"""

from hashlib import blake2b
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from otf.arrays import Ints
from otf.kernels.bonds import bonded_pairs
from otf.kernels.descriptor import Neighbours
from otf.model.neighbours import NeighbourCache

STRETCH = 1.3
"""Largest bond length in units of the sum of covalent radii. For C-H it lies halfway between the
longest bond and the closest non-bonded neighbour, so that molecular vibrations do not change
classes. In metals, which have no such separation of distances, they do."""


class BondGraph:
    """Assigns a class to each atom; classes are cached as long as the bonds do not change.

    Parameters
    ----------
    species
        Atomic numbers that may occur.
    depth
        Distance in bonds up to which atoms enter the class.

    Examples
    --------
    >>> from ase.build import molecule
    >>> BondGraph(np.array([1, 6, 8]), 1).classes(molecule("CH3OH"))
    ('C(HHHO)', 'O(CH)', 'H(C)', 'H(O)', 'H(C)', 'H(C)')
    """

    def __init__(self, species: Ints, depth: int) -> None:
        self.depth = depth
        self._cache = NeighbourCache(2.0 * STRETCH * max(covalent_radii[z] for z in species))
        self._numbers: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._neighbours: Neighbours | None = None
        self._bonded: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._classes: tuple[str, ...] = ()

    def classes(self, atoms: Atoms) -> tuple[str, ...]:
        """Class of each atom, such as ``C(HHHO)``; from depth 2 on, the element and a hash."""
        cell, neighbours = self._cache.of(atoms)
        radii = STRETCH * covalent_radii[atoms.numbers]
        bonded = bonded_pairs(atoms.positions, cell, radii, neighbours)
        known = (
            neighbours is self._neighbours
            and np.array_equal(bonded, self._bonded)
            and np.array_equal(atoms.numbers, self._numbers)
        )
        if not known:
            self._numbers = atoms.numbers.copy()
            self._neighbours, self._bonded = neighbours, bonded
            self._classes = self._colours()
        return self._classes

    def _colours(self) -> tuple[str, ...]:
        assert self._neighbours is not None
        first, indices = self._neighbours.first, self._neighbours.indices
        partners = [
            indices[start:stop][self._bonded[start:stop]] for start, stop in pairwise(first)
        ]
        names = [chemical_symbols[z] for z in self._numbers]
        for level in range(self.depth):
            bonded_to = ["".join(sorted(names[j] for j in near)) for near in partners]
            if level:  # names would grow without bound
                bonded_to = [
                    blake2b(f"{name}{near}".encode(), digest_size=6).hexdigest()
                    for name, near in zip(names, bonded_to, strict=True)
                ]
            names = [
                f"{name.split('(')[0]}({near})" for name, near in zip(names, bonded_to, strict=True)
            ]
        return tuple(names)

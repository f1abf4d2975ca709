"""Sharing of coefficients between atoms.

The coefficients of an atom are the sum of up to three blocks: of its species, of its class of
environments, and of the atom itself. The second and third are deviations from the first, with a
stronger prior: without data for a class or an atom, the coefficients of its species are used. They
are multiplied by the weight of the bonds of the atom, which goes to zero where its class changes,
so that energy and forces have no step.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.kernels.descriptor import Neighbours
from otf.kernels.energy import Membership
from otf.model.bond_graph import LONGEST_A, BondGraph

DEVIATION = 4.0
"""Strength of the prior of a deviation, in units of that of the species' coefficients."""


@dataclass(frozen=True)
class Groups:
    """Groups of atoms that have blocks of coefficients.

    Attributes
    ----------
    species
        Atomic numbers, ascending, each with a block.
    classes
        Classes of atoms that have a block.
    atoms
        Class that each atom of the system must have to use its own block; empty if atoms have no
        blocks.
    longest_bond_A
        Longest bond that classes depend on; 0 if they are the elements.
    """

    species: tuple[int, ...]
    classes: tuple[str, ...] = ()
    atoms: tuple[str, ...] = ()
    longest_bond_A: float = LONGEST_A


class Sharing:
    """Assigns blocks of coefficients to the atoms of a structure.

    Parameters
    ----------
    groups
        Groups that have blocks: first species, then classes, then atoms.

    Examples
    --------
    >>> from ase.build import molecule
    >>> sharing = Sharing(Groups((1, 6, 8), classes=("H(C)", "H(O)")))
    >>> sharing.blocks(molecule("CH3OH")).tolist()
    [[1, -1], [2, -1], [0, 3], [0, 4], [0, 3], [0, 3]]
    """

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.n_blocks = len(groups.species) + len(groups.classes) + len(groups.atoms)
        self._species = np.array(groups.species, dtype=np.int64)
        self._class = {name: i for i, name in enumerate(groups.classes)}
        uses_classes = bool(groups.classes or groups.atoms)
        self._graph = BondGraph(groups.longest_bond_A) if uses_classes else None
        self._numbers: Ints = np.zeros(0, dtype=np.int64)
        self._channels: Ints = np.zeros(0, dtype=np.int64)
        self._names: tuple[str, ...] = ()
        self._plain: Membership | None = None  # of atoms without bonds, kept between calls
        self._leaf: Ints = np.zeros(0, dtype=np.int64)
        self.leaves = self._all_leaves()
        self.species_of_block = self._species_of_block()

    def _species_of_block(self) -> Ints:
        """Channel of the atoms of each block (n_blocks,)."""
        out = np.zeros(self.n_blocks, dtype=np.int64)
        for blocks in self.leaves:
            out[blocks[blocks >= 0]] = blocks[0]
        return out

    @property
    def prior(self) -> Floats:
        """Strength of the prior of each block (n_blocks,)."""
        prior = np.full(self.n_blocks, DEVIATION)
        prior[: len(self._species)] = 1.0
        return prior

    def channels(self, atoms: Atoms) -> Ints:
        """Index of each atom's species (N,), cached for the same structure.

        Raises
        ------
        ValueError
            If an atom's species is not among those of the groups.
        """
        if not np.array_equal(atoms.numbers, self._numbers):
            numbers = np.array(atoms.numbers, dtype=np.int64)
            channels = np.searchsorted(self._species, numbers).astype(np.int64)
            last = len(self._species) - 1
            known = self._species[np.minimum(channels, last)] == numbers
            if not known.all():
                stranger = int(numbers[~known][0])
                raise ValueError(f"the model has no species with atomic number {stranger}")
            self._numbers, self._channels, self._names = numbers, channels, ()
        return self._channels

    def membership(self, atoms: Atoms, neighbours: Neighbours, start: int, stop: int) -> Membership:
        """The rows of :attr:`leaves` of all atoms, with the weights of atoms start to stop."""
        leaf = self.leaf(atoms)
        if self._graph is None:
            plain, pairs = self._plain, len(neighbours.indices)
            if plain is None or plain.group is not leaf or len(plain.slope) < pairs:
                plain = self._plain = Membership(leaf, np.ones(len(leaf)), np.zeros(pairs))
            return plain
        weights, slopes = self._graph.weights(atoms, neighbours, start, stop)
        return Membership(leaf, weights, slopes)

    def leaf(self, atoms: Atoms) -> Ints:
        """Row (N,) of :attr:`leaves` with the blocks of each atom."""
        channels = self.channels(atoms)
        if self._graph is None:
            return channels
        names = self._graph.classes(atoms)
        if names is not self._names:
            self._names, self._leaf = names, self._leaf_of(channels, names)
        return self._leaf

    def blocks(self, atoms: Atoms) -> Ints:
        """Blocks of each atom (N, levels), -1 for none."""
        return np.ascontiguousarray(self.leaves[self.leaf(atoms)])

    def _leaf_of(self, channels: Ints, names: tuple[str, ...]) -> Ints:
        leaf = channels.copy()
        own = self.groups.atoms if len(self.groups.atoms) == len(names) else ()
        for i, name in enumerate(names):
            if own and own[i] == name:
                leaf[i] = len(self._species) + len(self._class) + i
            elif name in self._class:
                leaf[i] = len(self._species) + self._class[name]
        return leaf

    def _all_leaves(self) -> Ints:
        """Blocks (leaves, levels) of every kind of atom."""
        groups, n_species = self.groups, len(self.groups.species)
        channel = {z: i for i, z in enumerate(groups.species)}
        leaves = [[s, -1, -1] for s in range(n_species)]
        for i, name in enumerate(groups.classes):
            leaves.append([channel[_element(name)], n_species + i, -1])
        for i, name in enumerate(groups.atoms):
            block = n_species + self._class[name] if name in self._class else -1
            own = n_species + len(groups.classes) + i
            leaves.append([channel[_element(name)], block, own])
        table = np.array(leaves, dtype=np.int64)
        return np.ascontiguousarray(
            table[:, [0, *(1 + np.flatnonzero((table[:, 1:] >= 0).any(0)))]]
        )


def _element(name: str) -> int:
    """Atomic number of the atoms of a class."""
    return int(Atoms(name.split("(")[0]).numbers[0])


def splitting(names: set[str]) -> tuple[str, ...]:
    """Classes that share their species with another class, sorted.

    >>> splitting({"C(HHHO)", "H(C)", "H(O)", "O(CH)"})
    ('H(C)', 'H(O)')
    """
    elements = [name.split("(")[0] for name in names]
    return tuple(sorted(n for n in names if elements.count(n.split("(")[0]) > 1))

"""Matrices in a basis of localised orbitals, stored as blocks of pairs of atoms.

Orbitals of an atom are ordered by shell, and within a shell of degree l as real harmonics
m = -l … l, with sines at m < 0, cosines at m > 0 and no further sign: y, z, x for l = 1. Every
engine converts its own order and signs to these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from otf.arrays import Floats, Ints
from otf.errors import EngineError

Shells = Mapping[int, tuple[int, ...]]
"""Degrees l of the shells of an atom, in order, by atomic number."""


def width(degrees: tuple[int, ...]) -> int:
    """Number of orbitals in these shells.

    >>> width((0, 0, 1))
    5
    """
    return sum(2 * degree + 1 for degree in degrees)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of atoms, each with a block of a matrix; pairs (i, i) in the same cell are sites.

    Attributes
    ----------
    first, second
        (P,) indices of atoms.
    shifts
        (P, 3) lattice translations of the second atom.
    """

    first: Ints
    second: Ints
    shifts: Ints

    @classmethod
    def all_of(cls, n_atoms: int) -> "Pairs":
        """All pairs of atoms in one cell."""
        first, second = np.divmod(np.arange(n_atoms * n_atoms), n_atoms)
        return cls(first, second, np.zeros((n_atoms * n_atoms, 3), dtype=np.int64))

    @property
    def are_sites(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(P,) whether a pair is a site, an atom paired with itself."""
        same: np.ndarray[tuple[int], np.dtype[np.bool_]] = (self.first == self.second) & (
            self.shifts == 0
        ).all(axis=1)
        return same


@dataclass(frozen=True, eq=False)
class BlockMatrix:
    """A matrix in a basis of orbitals, by pairs of atoms.

    Attributes
    ----------
    numbers
        (N,) atomic numbers.
    shells
        Shells of each species.
    pairs
        The pairs of atoms that have a block.
    values
        Blocks concatenated, each (orbitals of the first, orbitals of the second).
    """

    numbers: Ints
    shells: Shells
    pairs: Pairs
    values: Floats

    @cached_property
    def starts(self) -> Ints:
        """(P,) index in ``values`` at which each block begins."""
        widths = self.widths
        sizes = widths[self.pairs.first] * widths[self.pairs.second]
        return np.asarray(np.concatenate([[0], np.cumsum(sizes)[:-1]]), dtype=np.int64)

    @property
    def widths(self) -> Ints:
        """(N,) number of orbitals of each atom."""
        return np.array([width(self.shells[int(z)]) for z in self.numbers], dtype=np.int64)

    def positions_of(self, chosen: Ints) -> Ints:
        """Indices in ``values`` of the elements of blocks of equal shape, (chosen, rows, columns).

        Parameters
        ----------
        chosen
            Indices of pairs.
        """
        widths = self.widths
        rows = int(widths[self.pairs.first[chosen[0]]])
        columns = int(widths[self.pairs.second[chosen[0]]])
        inside = np.arange(rows * columns).reshape(rows, columns)
        return np.asarray(self.starts[chosen][:, None, None] + inside)

    def blocks(self, chosen: Ints) -> Floats:
        """Blocks of pairs of equal shape, (chosen, rows, columns)."""
        return np.asarray(self.values[self.positions_of(chosen)])

    def dense(self) -> Floats:
        """The dense matrix at the Gamma point: the sum of the blocks over all cells."""
        starts = np.concatenate([[0], np.cumsum(self.widths)])
        out = np.zeros((starts[-1], starts[-1]))
        for i, j, at in zip(self.pairs.first, self.pairs.second, self.starts, strict=True):
            rows, columns = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
            shape = (starts[i + 1] - starts[i], starts[j + 1] - starts[j])
            out[rows, columns] += self.values[at : at + shape[0] * shape[1]].reshape(shape)
        return out

    @classmethod
    def of_dense(cls, numbers: Ints, shells: Shells, matrix: Floats) -> "BlockMatrix":
        """Block matrix, with all blocks, from the dense matrix of a molecule."""
        widths = [width(shells[int(z)]) for z in numbers]
        ends = np.cumsum(widths)
        spans = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
        blocks = [matrix[rows, columns].ravel() for rows in spans for columns in spans]
        return cls(numbers, shells, Pairs.all_of(len(numbers)), np.concatenate(blocks))

    def on(self, pairs: Pairs) -> "BlockMatrix":
        """The matrix on other pairs; blocks that are missing here are zero."""
        if pairs is self.pairs:
            return self
        keys = (
            np.column_stack([p.first, p.second, p.shifts]).tolist() for p in (self.pairs, pairs)
        )
        known, wanted = ([tuple(key) for key in found] for found in keys)
        where = {key: k for k, key in enumerate(known)}
        widths = self.widths
        sizes = (widths[pairs.first] * widths[pairs.second]).tolist()
        values = [
            self.values[self.starts[where[key]] : self.starts[where[key]] + size]
            if key in where
            else np.zeros(size)
            for key, size in zip(wanted, sizes, strict=True)
        ]
        return replace(self, pairs=pairs, values=np.concatenate(values))

    def has_shells(self, shells: Shells) -> bool:
        """Whether these are the shells of its atoms."""
        present = {int(z) for z in self.numbers}
        return all(tuple(shells.get(z, ())) == tuple(self.shells[z]) for z in present)

    def require_shells(self, shells: Shells) -> None:
        """Check that these are the shells of its atoms.

        Raises
        ------
        EngineError
            If not: it is of another basis than the engine's.
        """
        if not self.has_shells(shells):
            raise EngineError(
                "the density matrix is of another basis than the engine's: give the configuration "
                "that the matrices were computed with"
            )

    def with_values(self, values: Floats) -> "BlockMatrix":
        """A matrix with the same pairs and other values."""
        return replace(self, values=values)


@dataclass(frozen=True, eq=False)
class RadialFunctions:
    """Radial parts R(r) of the orbitals of an element, to be multiplied by real harmonics.

    Attributes
    ----------
    distances
        (points,) ascending from 0, Angstrom; orbitals are zero beyond the last.
    values
        (shells, points), Angstrom**-1.5.
    """

    distances: Floats
    values: Floats

    @property
    def reach(self) -> float:
        """Range of the orbitals, Angstrom."""
        return float(self.distances[-1])


@dataclass(frozen=True, eq=False)
class Matrices:
    """Matrices of a converged label.

    Attributes
    ----------
    hamiltonian
        eV.
    overlap, density
        The density matrix counts both spins.
    electrons
        Number of electrons described by the orbitals.
    cores
        (N,) charges of the nuclei minus the electrons that are not described; NaN if the engine
        does not report them.
    kpoints
        (K, 3), fractional, of equal weight, for a crystal; None for a molecule, whose matrices have
        all blocks and whose orbitals are doubly occupied or empty.
    smearing_eV
        Width of the occupations of a crystal.
    methfessel_paxton
        Order of the occupations of Methfessel and Paxton; None for those of Fermi and Dirac.
    basis
        Description of the basis by the engine; matrices of different bases cannot be combined.
    orbitals
        Radial functions of each element, if the engine reports them.
    """

    hamiltonian: BlockMatrix
    overlap: BlockMatrix
    density: BlockMatrix
    electrons: float
    cores: Floats
    kpoints: Floats | None = None
    smearing_eV: float = 0.0
    methfessel_paxton: int | None = None
    basis: str = ""
    orbitals: Mapping[int, RadialFunctions] | None = None

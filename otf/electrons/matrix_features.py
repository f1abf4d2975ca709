"""Features of the sites and bonds of a structure, and the linear problems for a matrix.

Each kind of tensor on the sites of a species, and each weight on the bonds of a pair of species,
is one least-squares problem with many right-hand sides: all shells, all matrices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from otf.arrays import Complex, Floats, Ints
from otf.electrons.bond_features import (
    BondFeatures,
    Weight,
    frames,
    moments_in_frame,
    to_weights,
    turned,
)
from otf.electrons.environment import Reach, moments, neighbours, parts, vectors_of
from otf.electrons.harmonics import rotation_matrices
from otf.electrons.site_features import SiteFeatures, TensorKind, to_tensors
from otf.orbitals.block_matrices import BlockMatrix, Pairs, Shells

Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]

SiteProblem = tuple[int, TensorKind]
BondProblem = tuple[tuple[int, int], Weight]
Problem = SiteProblem | BondProblem
"""A species and a kind of tensor, or a pair of species and a weight."""

_ROUNDING_A = 1e-6
_CHUNK = 512  # bonds per batch: bounds the memory


@dataclass(frozen=True)
class Description:
    """Sizes of the features of sites and bonds.

    Attributes
    ----------
    around
        Radial functions of the moments.
    l_max
        Highest degree of the moments: twice that of the orbitals, else the highest tensors on a
        site have no feature of first order.
    bond
        Radial functions of a bond; their cutoff is the range of the orbitals.
    site_budget, bond_budget
        See :class:`SiteFeatures` and :class:`BondFeatures`.
    finer
        Factor of the prior for each degree of a feature: prevents overfitting with few labels.
    """

    around: Reach = field(default_factory=lambda: Reach(4, 0.4, 6.0))
    l_max: int = 3
    bond: Reach = field(default_factory=lambda: Reach(8, 0.4, 8.0))
    site_budget: int = 8
    bond_budget: int = 4
    finer: float = 5.0


@dataclass(frozen=True, eq=False)
class Sites:
    """Sites of a species: indices of their pairs, and moments of the atoms."""

    species: int
    chosen: Ints
    moments: Floats


@dataclass(frozen=True, eq=False)
class Bonds:
    """Bonds of two species: indices of their pairs, frames, and features of each."""

    species: tuple[int, int]
    chosen: Ints
    lengths: Floats
    rotations: list[Floats]
    radial: Floats
    moments: Complex


class MatrixFeatures:
    """Features of the sites and bonds of structures.

    Parameters
    ----------
    shells
        Shells of each species.
    description
        Sizes of the features.
    """

    def __init__(self, shells: Shells, description: Description) -> None:
        self.shells = shells
        self.description = description
        self.species = tuple(sorted(shells))
        d, n = description, len(self.species)
        self._of_sites = SiteFeatures(n, d.around.count, d.l_max, d.site_budget)
        self._of_bonds = BondFeatures(d.bond.count, n, d.around.count, d.l_max, d.bond_budget)
        highest = max(max(degrees) for degrees in shells.values())
        self._l_turned = max(highest, d.l_max)

    def degrees(self, problem: Problem) -> Ints:
        """Degree of each feature of a problem."""
        if isinstance(problem[0], int):
            return self._of_sites.degrees(problem[1])
        return self._of_bonds.degrees(problem[1])

    def pairs(self, atoms: Atoms) -> Pairs:
        """Sites, and bonds up to the bond cutoff."""
        # Of bonds as long as the cutoff, rounding may leave one direction only.
        cutoff = self.description.bond.cutoff
        first, second, shifts = neighbours(atoms, cutoff + _ROUNDING_A)
        near = np.linalg.norm(vectors_of(atoms, first, second, shifts), axis=1) < cutoff
        first, second, shifts = first[near], second[near], shifts[near]
        n = np.arange(len(atoms))
        return Pairs(
            np.concatenate([n, first]),
            np.concatenate([n, second]),
            np.concatenate([np.zeros((len(n), 3), dtype=np.int64), shifts]),
        )

    def lengths(self, atoms: Atoms, pairs: Pairs) -> dict[tuple[int, int], Floats]:
        """Lengths of the bonds of each two species, in ascending order; Angstrom."""
        vectors = vectors_of(atoms, pairs.first, pairs.second, pairs.shifts)
        found = np.linalg.norm(vectors, axis=1)
        kind = np.searchsorted(self.species, atoms.numbers)
        out = {}
        for a, one in enumerate(self.species):
            for b, other in enumerate(self.species[a:], start=a):
                mine = (kind[pairs.first] == a) & (kind[pairs.second] == b) & ~pairs.are_sites
                if mine.any():
                    out[one, other] = np.sort(found[mine])
        return out

    def of_site(self, site: Sites, kind: TensorKind) -> Floats:
        """Features (sites, 2l + 1, count) of a kind of tensor."""
        return self._of_sites.of(site.moments, kind)

    def of_bond(self, bond: Bonds, weight: Weight) -> Floats:
        """Features of a weight as real rows, since the coefficients are real."""
        return as_real(self._of_bonds.of(bond.radial, bond.moments, weight), weight)

    def equations(
        self, sites: Sequence[Sites], bonds: Sequence[Bonds], matrices: Sequence[BlockMatrix]
    ) -> Iterator[tuple[Problem, Floats, Floats]]:
        """Rows and targets of each problem for the matrices of one structure."""
        for site in sites:
            shells = self.shells[site.species]
            tensors = [to_tensors(matrix.blocks(site.chosen), shells) for matrix in matrices]
            for kind in tensors[0]:
                targets = np.concatenate([t[kind] for t in tensors], axis=2)
                yield (site.species, kind), _flat(self.of_site(site, kind)), _flat(targets)
        for bond in bonds:
            ends = self.shells[bond.species[0]], self.shells[bond.species[1]]
            numbers = [
                to_weights(turned(m.blocks(bond.chosen), bond.rotations, *ends), *ends)
                for m in matrices
            ]
            for weight in numbers[0]:
                targets = as_real(np.concatenate([n[weight] for n in numbers], axis=1), weight)
                yield (bond.species, weight), self.of_bond(bond, weight), targets

    def described(
        self, atoms: Atoms, pairs: Pairs, wanted: Mask
    ) -> tuple[list[Sites], list[Bonds]]:
        """Features of all sites, and of the wanted bonds with species in ascending order."""
        d = self.description
        around = moments(atoms, self.species, d.around, d.l_max)
        kind = np.searchsorted(self.species, atoms.numbers)
        is_site = pairs.are_sites
        sites = [
            Sites(z, chosen, around[pairs.first[chosen]])
            for k, z in enumerate(self.species)
            if len(chosen := np.flatnonzero(is_site & (kind[pairs.first] == k)))
        ]
        bonds = []
        vectors = vectors_of(atoms, pairs.first, pairs.second, pairs.shifts)
        wanted = wanted & (np.linalg.norm(vectors, axis=1) < d.bond.cutoff) & ~is_site
        for a, one in enumerate(self.species):
            for b, other in enumerate(self.species[a:], start=a):
                mine = wanted & (kind[pairs.first] == a) & (kind[pairs.second] == b)
                chosen = np.flatnonzero(mine)
                for start in range(0, len(chosen), _CHUNK):
                    part = chosen[start : start + _CHUNK]
                    bonds.append(
                        self._bonds_of(
                            part, pairs, vectors, around, species=(one, other), kinds=(a, b)
                        )
                    )
        return sites, bonds

    def _bonds_of(
        self,
        chosen: Ints,
        pairs: Pairs,
        vectors: Floats,
        around: Floats,
        *,
        species: tuple[int, int],
        kinds: tuple[int, int],
    ) -> Bonds:
        d, along = self.description, vectors[chosen]
        lengths = np.linalg.norm(along, axis=1)
        rotations = rotation_matrices(frames(along), self._l_turned)
        ends = []
        for atom, partner, sign in (
            (pairs.first[chosen], kinds[1], 1.0),
            (pairs.second[chosen], kinds[0], -1.0),
        ):
            mine = around[atom].copy()
            mine[:, partner] -= parts(sign * along, d.around, d.l_max)  # of the other atom
            ends.append(mine)
        return Bonds(
            species,
            chosen,
            lengths,
            rotations,
            d.bond.values(lengths),
            moments_in_frame((ends[0], ends[1]), rotations),
        )


def _flat(tensors: Floats) -> Floats:
    """Components of tensors (B, 2l + 1, count) as rows; rows are empty if there are none."""
    return tensors.reshape(tensors.shape[0] * tensors.shape[1], tensors.shape[2])


def as_real(numbers: Complex, weight: Weight) -> Floats:
    """Complex rows as real ones: real and imaginary parts below each other."""
    if weight == 0:
        return np.ascontiguousarray(numbers.real)
    if weight == "odd":
        return np.ascontiguousarray(numbers.imag)
    return np.concatenate([numbers.real, numbers.imag])


def as_complex(rows: Floats, weight: Weight) -> Complex:
    """Inverse of :func:`as_real`."""
    if weight == 0:
        return rows.astype(np.complex128)
    if weight == "odd":
        return np.asarray(1j * rows)
    real, imaginary = np.split(rows, 2)
    return np.asarray(real + 1j * imaginary)

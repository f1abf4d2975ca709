"""Matrices between orbitals as a linear function of the structure, learned label by label.

Each kind of tensor on the sites of a species, and each weight on the bonds of a pair of species,
is one problem of least squares with many right-hand sides: all shells, all matrices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.electrons.bond_features import (
    BondFeatures,
    Weight,
    frames,
    from_weights,
    moments_in_frame,
    to_weights,
    turned,
)
from otf.electrons.environment import Reach, moments, parts, vectors_of
from otf.electrons.harmonics import rotation_matrices
from otf.electrons.site_features import SiteFeatures, TensorKind, from_tensors, to_tensors
from otf.model.normal_equations import NormalEquations
from otf.orbitals import BlockMatrix, Pairs, Shells

_CHUNK = 512  # bonds at a time: bounds the memory
_STRENGTH = 1e-9  # of the prior, relative to the diagonal of the equations
_FLOOR = 1e-12  # of a feature that never varied, relative to the largest


@dataclass(frozen=True)
class Description:
    """How structures are described.

    Attributes
    ----------
    around
        Radial functions of the moments.
    l_max
        Of the moments.
    bond
        Radial functions of a bond, which end where orbitals no longer meet.
    site_budget, bond_budget
        See :class:`SiteFeatures` and :class:`BondFeatures`.
    """

    around: Reach = Reach(4, 0.4, 6.0)
    l_max: int = 3
    bond: Reach = Reach(7, 0.4, 8.0)
    site_budget: int = 6
    bond_budget: int = 6


@dataclass(eq=False)
class _Problem:
    """Least squares of one kind of numbers."""

    equations: NormalEquations | None = None
    coefficients: Floats | None = None

    def add(self, rows: Floats, targets: Floats, block: int) -> None:
        if self.equations is None:
            n = rows.shape[1]
            self.equations = NormalEquations(np.ones(n), keep_blocks=0, outputs=targets.shape[1])
        self.equations.add(rows, targets, block=block)
        self.coefficients = None

    def predict(self, rows: Floats) -> Floats:
        assert self.equations is not None
        if self.coefficients is None:
            diagonal = np.diag(self.equations.gram)
            self.equations.prior = np.maximum(diagonal, _FLOOR * diagonal.max())
            self.equations.forget_solutions()
            strength, solution = _STRENGTH, None
            while solution is None:
                solution = self.equations.solve(len(diagonal), strength)
                strength *= 10.0
            self.coefficients = solution.coefficients
        return np.asarray(rows @ self.coefficients)


@dataclass(frozen=True, eq=False)
class _Sites:
    """Atoms of a species: where their blocks are, and their features."""

    species: int
    chosen: Ints
    moments: Floats


@dataclass(frozen=True, eq=False)
class _Bonds:
    """Pairs of two species: where their blocks are, the frame of each, and what surrounds it."""

    species: tuple[int, int]
    chosen: Ints
    rotations: list[Floats]
    radial: Floats
    moments: "np.ndarray[tuple[int, ...], np.dtype[np.complex128]]"


@dataclass(eq=False)
class MatrixModel:
    """Learns matrices of one basis.

    Parameters
    ----------
    shells
        Of each species.
    names
        Of the matrices, learned together.
    """

    shells: Shells
    names: Sequence[str]
    description: Description = Description()
    n_labels: int = 0
    _sites: dict[tuple[int, TensorKind], _Problem] = field(default_factory=dict)
    _bonds: dict[tuple[int, int, Weight], _Problem] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._species = tuple(sorted(self.shells))
        d, n = self.description, len(self._species)
        self._site_features = SiteFeatures(n, d.around.count, d.l_max, d.site_budget)
        self._bond_features = BondFeatures(d.bond.count, n, d.around.count, d.l_max, d.bond_budget)
        highest = max(max(degrees) for degrees in self.shells.values())
        self._l_turned = max(highest, d.l_max)

    def pairs(self, atoms: Atoms) -> Pairs:
        """Sites, and bonds up to the reach."""
        from otf.electrons.environment import neighbours

        first, second, shifts = neighbours(atoms, self.description.bond.cutoff)
        n = np.arange(len(atoms))
        return Pairs(
            np.concatenate([n, first]),
            np.concatenate([n, second]),
            np.concatenate([np.zeros((len(n), 3), dtype=np.int64), shifts]),
        )

    def learn(self, atoms: Atoms, matrices: Mapping[str, BlockMatrix]) -> None:
        """Take in the matrices of one structure, which all have the same blocks."""
        one = matrices[self.names[0]]
        sites, bonds = self._described(atoms, one.pairs)
        for group in sites:
            shells = self.shells[group.species]
            tensors = [to_tensors(matrices[n].blocks(group.chosen), shells) for n in self.names]
            for kind in tensors[0]:
                rows = self._site_features.of(group.moments, kind)
                targets = np.concatenate([t[kind] for t in tensors], axis=2)
                self._problem(self._sites, (group.species, kind)).add(
                    rows.reshape(-1, rows.shape[2]),
                    targets.reshape(-1, targets.shape[2]),
                    self.n_labels,
                )
        for bond in bonds:
            ends = self.shells[bond.species[0]], self.shells[bond.species[1]]
            numbers = [
                to_weights(
                    turned(matrices[n].blocks(bond.chosen), bond.rotations, *ends), *ends
                )
                for n in self.names
            ]
            for weight in numbers[0]:
                rows = self._bond_features.of(bond.radial, bond.moments, weight)
                targets = np.concatenate([n[weight] for n in numbers], axis=1)
                self._problem(self._bonds, (*bond.species, weight)).add(
                    _real(rows, weight), _real(targets, weight), self.n_labels
                )
        self.n_labels += 1

    def predict(self, atoms: Atoms, pairs: Pairs | None = None) -> dict[str, BlockMatrix]:
        """Matrices of a structure, hermitian."""
        pairs = self.pairs(atoms) if pairs is None else pairs
        numbers = np.asarray(atoms.numbers, dtype=np.int64)
        blank = BlockMatrix(numbers, self.shells, pairs, np.empty(0))
        total = int((blank.widths[pairs.first] * blank.widths[pairs.second]).sum())
        values = {name: np.zeros(total) for name in self.names}
        sites, bonds = self._described(atoms, pairs)
        for group in sites:
            shells = self.shells[group.species]
            tensors: dict[TensorKind, list[Floats]] = {}
            for (species, kind), problem in self._sites.items():
                if species == group.species:
                    rows = self._site_features.of(group.moments, kind)
                    found = problem.predict(rows.reshape(-1, rows.shape[2]))
                    found = found.reshape(*rows.shape[:2], -1)
                    tensors[kind] = np.split(found, len(self.names), axis=2)
            where = blank.positions_of(group.chosen)
            for k, name in enumerate(self.names):
                blocks = from_tensors({kind: t[k] for kind, t in tensors.items()}, shells)
                values[name][where] = 0.5 * (blocks + blocks.transpose(0, 2, 1))
        for bond in bonds:
            ends = self.shells[bond.species[0]], self.shells[bond.species[1]]
            found_numbers: dict[Weight, list[np.ndarray[tuple[int, ...], np.dtype[np.complex128]]]]
            found_numbers = {}
            for (*species, weight), bond_problem in self._bonds.items():
                if tuple(species) == bond.species:
                    rows = self._bond_features.of(bond.radial, bond.moments, weight)
                    answer = bond_problem.predict(_real(rows, weight))
                    joined = _complex(answer, len(rows), weight)
                    found_numbers[weight] = np.split(joined, len(self.names), axis=1)
            where = blank.positions_of(bond.chosen)
            for k, name in enumerate(self.names):
                blocks = from_weights({w: v[k] for w, v in found_numbers.items()}, *ends)
                values[name][where] = turned(blocks, bond.rotations, *ends, back=True)
        partner = _partners(pairs, len(numbers))
        return {name: _hermitian(blank.with_values(v), partner) for name, v in values.items()}

    def _problem(self, among: dict, key: object) -> _Problem:  # type: ignore[type-arg]
        return among.setdefault(key, _Problem())

    def _described(self, atoms: Atoms, pairs: Pairs) -> tuple[list[_Sites], list[_Bonds]]:
        """Features of all sites, and of the bonds whose first species is not the later one."""
        d = self.description
        around = moments(atoms, self._species, d.around, d.l_max)
        kind = np.searchsorted(self._species, atoms.numbers)
        is_site = pairs.are_sites
        sites = [
            _Sites(z, chosen, around[pairs.first[chosen]])
            for k, z in enumerate(self._species)
            if len(chosen := np.flatnonzero(is_site & (kind[pairs.first] == k)))
        ]
        bonds = []
        vectors = vectors_of(atoms, pairs.first, pairs.second, pairs.shifts)
        near = np.linalg.norm(vectors, axis=1) < d.bond.cutoff
        for a, one in enumerate(self._species):
            for b, other in enumerate(self._species[a:], start=a):
                mine = (kind[pairs.first] == a) & (kind[pairs.second] == b) & ~is_site & near
                chosen = np.flatnonzero(mine)
                for start in range(0, len(chosen), _CHUNK):
                    part = chosen[start : start + _CHUNK]
                    bonds.append(self._bonds_of((one, other), part, pairs, vectors, around, (a, b)))
        return sites, bonds

    def _bonds_of(
        self,
        species: tuple[int, int],
        chosen: Ints,
        pairs: Pairs,
        vectors: Floats,
        around: Floats,
        kinds: tuple[int, int],
    ) -> _Bonds:
        d, along = self.description, vectors[chosen]
        rotations = rotation_matrices(frames(along), self._l_turned)
        ends = []
        for atom, partner, sign in (
            (pairs.first[chosen], kinds[1], 1.0),
            (pairs.second[chosen], kinds[0], -1.0),
        ):
            mine = around[atom].copy()
            mine[:, partner] -= parts(sign * along, d.around, d.l_max)  # of the other end
            ends.append(mine)
        return _Bonds(
            species,
            chosen,
            rotations,
            d.bond.values(np.linalg.norm(along, axis=1)),
            moments_in_frame((ends[0], ends[1]), rotations),
        )


def _real(numbers: "np.ndarray[tuple[int, ...], np.dtype[np.complex128]]", weight: Weight) -> Floats:
    """Rows of numbers as real rows: the coefficients are real."""
    if weight == 0:
        return np.ascontiguousarray(numbers.real)
    if weight == "odd":
        return np.ascontiguousarray(numbers.imag)
    return np.concatenate([numbers.real, numbers.imag])


def _complex(
    rows: Floats, n: int, weight: Weight
) -> "np.ndarray[tuple[int, ...], np.dtype[np.complex128]]":
    """The inverse of :func:`_real`."""
    if weight == 0:
        return rows.astype(complex)
    if weight == "odd":
        return 1j * rows
    return rows[:n] + 1j * rows[n:]


def _partners(pairs: Pairs, n_atoms: int) -> Ints:
    """(P,) where the transposed block of each pair is, itself for a site."""
    key = np.column_stack([pairs.first, pairs.second, pairs.shifts])
    turned_key = np.column_stack([pairs.second, pairs.first, -pairs.shifts])
    order, turned_order = np.lexsort(key.T), np.lexsort(turned_key.T)
    partner = np.empty(len(key), dtype=np.int64)
    partner[turned_order] = order
    if not np.array_equal(key[partner], turned_key):
        raise ValueError("a pair is there in one direction only")
    return partner


def _hermitian(matrix: BlockMatrix, partner: Ints) -> BlockMatrix:
    """Each block as the mean of itself and its partner's transpose; of one kind, the known one."""
    numbers, pairs = matrix.numbers, matrix.pairs
    values = matrix.values.copy()
    kinds = numbers[pairs.first], numbers[pairs.second]
    for one in np.unique(numbers):
        for other in np.unique(numbers):
            chosen = np.flatnonzero((kinds[0] == one) & (kinds[1] == other))
            if not len(chosen) or one < other:
                continue
            across = matrix.blocks(partner[chosen]).transpose(0, 2, 1)
            own = matrix.blocks(chosen)
            values[matrix.positions_of(chosen)] = across if one > other else 0.5 * (own + across)
    return matrix.with_values(values)

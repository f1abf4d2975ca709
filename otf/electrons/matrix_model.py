"""Linear equivariant models of matrices in a basis of orbitals, updated label by label.

Each kind of tensor on the sites of a species, and each weight on the bonds of a pair of species,
is one least-squares problem with many right-hand sides: all shells, all matrices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from otf.arrays import Complex, Floats, Ints
from otf.electrons.bond_features import (
    BondFeatures,
    Weight,
    frames,
    from_weights,
    moments_in_frame,
    to_weights,
    turned,
)
from otf.electrons.environment import Reach, moments, neighbours, parts, vectors_of
from otf.electrons.harmonics import rotation_matrices
from otf.electrons.ridge import RidgeProblem
from otf.electrons.site_features import SiteFeatures, TensorKind, from_tensors, to_tensors
from otf.orbitals.block_matrices import BlockMatrix, Pairs, Shells

Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]

_CHUNK = 512  # bonds per batch: bounds the memory
_LATER = 1.5  # factor of the number of labels after which priors are chosen anew
_MARGIN_A = 0.1  # beyond the longest bond in the training data


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
    """

    around: Reach = field(default_factory=lambda: Reach(4, 0.4, 6.0))
    l_max: int = 3
    bond: Reach = field(default_factory=lambda: Reach(8, 0.4, 8.0))
    site_budget: int = 8
    bond_budget: int = 4


@dataclass(frozen=True, eq=False)
class _Sites:
    """Sites of a species: indices of their pairs, and moments of the atoms."""

    species: int
    chosen: Ints
    moments: Floats


@dataclass(frozen=True, eq=False)
class _Bonds:
    """Bonds of two species: indices of their pairs, frames, and features of each."""

    species: tuple[int, int]
    chosen: Ints
    lengths: Floats
    rotations: list[Floats]
    radial: Floats
    moments: Complex


@dataclass(eq=False)
class MatrixModel:
    """Model of matrices in one basis.

    Bonds longer than any in the training data are predicted as zero. Blocks that are all zero are
    not used for training.

    Parameters
    ----------
    shells
        Shells of each species.
    names
        Names of the matrices, which are fitted together.
    """

    shells: Shells
    names: Sequence[str]
    description: Description = field(default_factory=Description)
    n_labels: int = 0
    _sites: dict[tuple[int, TensorKind], RidgeProblem] = field(default_factory=dict)
    _bonds: dict[tuple[tuple[int, int], Weight], RidgeProblem] = field(default_factory=dict)
    _longest: dict[tuple[int, int], float] = field(default_factory=dict)
    _choose_at: float = 1.0

    def __post_init__(self) -> None:
        self._species = tuple(sorted(self.shells))
        d, n = self.description, len(self._species)
        self._site_features = SiteFeatures(n, d.around.count, d.l_max, d.site_budget)
        self._bond_features = BondFeatures(d.bond.count, n, d.around.count, d.l_max, d.bond_budget)
        highest = max(max(degrees) for degrees in self.shells.values())
        self._l_turned = max(highest, d.l_max)

    def pairs(self, atoms: Atoms) -> Pairs:
        """Sites, and bonds up to the bond cutoff."""
        first, second, shifts = neighbours(atoms, self.description.bond.cutoff)
        n = np.arange(len(atoms))
        return Pairs(
            np.concatenate([n, first]),
            np.concatenate([n, second]),
            np.concatenate([np.zeros((len(n), 3), dtype=np.int64), shifts]),
        )

    def learn(self, atoms: Atoms, matrices: Mapping[str, BlockMatrix]) -> None:
        """Add the matrices of one structure, all with the same blocks, to the training data."""
        ours = [matrices[name] for name in self.names]
        sites, bonds = self._described(atoms, ours[0].pairs, _not_zero(ours))
        for site in sites:
            blocks = [matrix.blocks(site.chosen) for matrix in ours]
            self._learn_sites(site, blocks)
        for bond in bonds:
            longest = max(self._longest.get(bond.species, 0.0), float(bond.lengths.max()))
            self._longest[bond.species] = longest
            blocks = [matrix.blocks(bond.chosen) for matrix in ours]
            self._learn_bonds(bond, blocks)
        self.n_labels += 1
        if self.n_labels >= self._choose_at:
            self._choose_at = _LATER * self.n_labels
            for problem in (*self._sites.values(), *self._bonds.values()):
                problem.choose()

    def _learn_sites(self, site: _Sites, blocks: Sequence[Floats]) -> None:
        tensors = [to_tensors(b, self.shells[site.species]) for b in blocks]
        for kind in tensors[0]:
            rows = self._site_features.of(site.moments, kind)
            targets = np.concatenate([t[kind] for t in tensors], axis=2)
            key = site.species, kind
            if key not in self._sites:
                degrees = self._site_features.degrees(kind)
                self._sites[key] = RidgeProblem(degrees, len(self.names))
            self._sites[key].add(_flat(rows), _flat(targets), self.n_labels)

    def _learn_bonds(self, bond: _Bonds, blocks: Sequence[Floats]) -> None:
        rows_of, columns_of = (self.shells[z] for z in bond.species)
        numbers = [
            to_weights(turned(b, bond.rotations, rows_of, columns_of), rows_of, columns_of)
            for b in blocks
        ]
        for weight in numbers[0]:
            rows = self._bond_features.of(bond.radial, bond.moments, weight)
            targets = np.concatenate([n[weight] for n in numbers], axis=1)
            key = bond.species, weight
            if key not in self._bonds:
                degrees = self._bond_features.degrees(weight)
                self._bonds[key] = RidgeProblem(degrees, len(self.names))
            self._bonds[key].add(_real(rows, weight), _real(targets, weight), self.n_labels)

    def predict(self, atoms: Atoms, pairs: Pairs | None = None) -> dict[str, BlockMatrix]:
        """Predict Hermitian matrices of a structure; by default, all blocks within the cutoff."""
        pairs = self.pairs(atoms) if pairs is None else pairs
        numbers = np.asarray(atoms.numbers, dtype=np.int64)
        blank = BlockMatrix(numbers, self.shells, pairs, np.empty(0))
        total = int((blank.widths[pairs.first] * blank.widths[pairs.second]).sum())
        values = np.zeros((len(self.names), total))
        sites, bonds = self._described(atoms, pairs, self._short_enough(atoms, pairs))
        for site in sites:
            values[:, blank.positions_of(site.chosen)] = self._site_blocks(site)
        for bond in bonds:
            values[:, blank.positions_of(bond.chosen)] = self._bond_blocks(bond)
        partner = _partners(pairs)
        return {
            name: _hermitian(blank.with_values(v), partner)
            for name, v in zip(self.names, values, strict=True)
        }

    def _short_enough(self, atoms: Atoms, pairs: Pairs) -> Mask:
        """(P,) whether a bond is no longer than those of its species in the training data."""
        limits = np.zeros((len(self._species),) * 2)
        for (one, other), length in self._longest.items():
            a, b = np.searchsorted(self._species, (one, other))
            limits[a, b] = limits[b, a] = length + _MARGIN_A
        kind = np.searchsorted(self._species, atoms.numbers)
        lengths = np.linalg.norm(vectors_of(atoms, pairs.first, pairs.second, pairs.shifts), axis=1)
        mask: Mask = lengths < limits[kind[pairs.first], kind[pairs.second]]
        return mask

    def _site_blocks(self, site: _Sites) -> Floats:
        """Blocks (matrices, sites, orbitals, orbitals)."""
        tensors: dict[TensorKind, list[Floats]] = {}
        for (species, kind), problem in self._sites.items():
            if species == site.species:
                rows = self._site_features.of(site.moments, kind)
                found = problem.predict(_flat(rows)).reshape(*rows.shape[:2], -1)
                tensors[kind] = np.split(found, len(self.names), axis=2)
        shells = self.shells[site.species]
        return np.array(
            [
                from_tensors({kind: t[k] for kind, t in tensors.items()}, shells)
                for k in range(len(self.names))
            ]
        )

    def _bond_blocks(self, bond: _Bonds) -> Floats:
        """Blocks (matrices, bonds, orbitals, orbitals)."""
        numbers: dict[Weight, list[Complex]] = {}
        for (species, weight), problem in self._bonds.items():
            if species == bond.species:
                rows = self._bond_features.of(bond.radial, bond.moments, weight)
                found = _complex(problem.predict(_real(rows, weight)), weight)
                numbers[weight] = np.split(found, len(self.names), axis=1)
        ends = self.shells[bond.species[0]], self.shells[bond.species[1]]
        return np.array(
            [
                turned(
                    from_weights({w: n[k] for w, n in numbers.items()}, *ends),
                    bond.rotations,
                    *ends,
                    back=True,
                )
                for k in range(len(self.names))
            ]
        )

    def _described(
        self, atoms: Atoms, pairs: Pairs, wanted: Mask
    ) -> tuple[list[_Sites], list[_Bonds]]:
        """Features of all sites, and of the wanted bonds with species in ascending order."""
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
        wanted = wanted & (np.linalg.norm(vectors, axis=1) < d.bond.cutoff) & ~is_site
        for a, one in enumerate(self._species):
            for b, other in enumerate(self._species[a:], start=a):
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
    ) -> _Bonds:
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
        return _Bonds(
            species,
            chosen,
            lengths,
            rotations,
            d.bond.values(lengths),
            moments_in_frame((ends[0], ends[1]), rotations),
        )


def _not_zero(matrices: Sequence[BlockMatrix]) -> Mask:
    """(P,) whether a block is non-zero in any of the matrices."""
    starts = matrices[0].starts
    mask: Mask = np.any(
        [np.maximum.reduceat(np.abs(matrix.values), starts) > 0.0 for matrix in matrices], axis=0
    )
    return mask


def _flat(tensors: Floats) -> Floats:
    """Components of tensors (B, 2l + 1, count) as rows; rows are empty if there are none."""
    return tensors.reshape(tensors.shape[0] * tensors.shape[1], tensors.shape[2])


def _real(numbers: Complex, weight: Weight) -> Floats:
    """Complex rows as real ones, since the coefficients are real."""
    if weight == 0:
        return np.ascontiguousarray(numbers.real)
    if weight == "odd":
        return np.ascontiguousarray(numbers.imag)
    return np.concatenate([numbers.real, numbers.imag])


def _complex(rows: Floats, weight: Weight) -> Complex:
    """Inverse of :func:`_real`."""
    if weight == 0:
        return rows.astype(np.complex128)
    if weight == "odd":
        return np.asarray(1j * rows)
    real, imaginary = np.split(rows, 2)
    return np.asarray(real + 1j * imaginary)


def _partners(pairs: Pairs) -> Ints:
    """(P,) index of the pair of the transposed block; of itself for a site."""
    key = np.column_stack([pairs.first, pairs.second, pairs.shifts])
    turned_key = np.column_stack([pairs.second, pairs.first, -pairs.shifts])
    order, turned_order = np.lexsort(key.T), np.lexsort(turned_key.T)
    partner = np.empty(len(key), dtype=np.int64)
    partner[turned_order] = order
    if not np.array_equal(key[partner], turned_key):
        raise ValueError("a pair of atoms is present in one direction only")
    return partner


def _hermitian(matrix: BlockMatrix, partner: Ints) -> BlockMatrix:
    """Symmetrise blocks of like species; copy those of unlike species from their partners."""
    values = matrix.values.copy()
    kinds = matrix.numbers[matrix.pairs.first], matrix.numbers[matrix.pairs.second]
    for one in np.unique(matrix.numbers):
        for other in np.unique(matrix.numbers):
            chosen = np.flatnonzero((kinds[0] == one) & (kinds[1] == other))
            if not len(chosen) or one < other:
                continue
            across = matrix.blocks(partner[chosen]).transpose(0, 2, 1)
            own = matrix.blocks(chosen)
            values[matrix.positions_of(chosen)] = across if one > other else 0.5 * (own + across)
    return matrix.with_values(values)

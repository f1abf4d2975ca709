"""Predicted matrices of any structure, from coefficients of the features of sites and bonds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from otf.arrays import Complex, Floats, Ints
from otf.electrons.bond_features import Weight, from_weights, turned
from otf.electrons.environment import vectors_of
from otf.electrons.matrix_features import (
    Bonds,
    Mask,
    MatrixFeatures,
    Problem,
    Sites,
    as_complex,
)
from otf.electrons.site_features import TensorKind, from_tensors
from otf.orbitals.block_matrices import BlockMatrix, Pairs

_MARGIN_A = 0.1  # beyond the longest bond in the training data
_EXTRAPOLATED_A = 0.5  # beyond it, where no data show that longer ones have no blocks


@dataclass(frozen=True, eq=False)
class FittedMatrices:
    """Linear predictor of matrices in one basis.

    Bonds longer than those in the training data are predicted as zero.

    Attributes
    ----------
    features
        The features of structures.
    names
        Names of the matrices.
    coefficients
        (features, right-hand sides) of each problem; each matrix has equally many of the right-hand
        sides, one after the other.
    longest
        Length of the longest bond with a block in the training data by species, Angstrom.
    farthest
        Largest distance of two atoms of these species in the training data within the cutoff. If
        it is no larger than the longest bond, longer ones may have blocks, too.
    """

    features: MatrixFeatures
    names: Sequence[str]
    coefficients: Mapping[Problem, Floats]
    longest: Mapping[tuple[int, int], float]
    farthest: Mapping[tuple[int, int], float]

    def predict(self, atoms: Atoms, pairs: Pairs | None = None) -> dict[str, BlockMatrix]:
        """Predict Hermitian matrices of a structure; by default, all blocks within the cutoff."""
        pairs = self.features.pairs(atoms) if pairs is None else pairs
        numbers = np.asarray(atoms.numbers, dtype=np.int64)
        blank = BlockMatrix(numbers, self.features.shells, pairs, np.empty(0))
        total = int((blank.widths[pairs.first] * blank.widths[pairs.second]).sum())
        values = np.zeros((len(self.names), total))
        sites, bonds = self.features.described(atoms, pairs, self._short_enough(atoms, pairs))
        for site in sites:
            values[:, blank.positions_of(site.chosen)] = self._site_blocks(site)
        for bond in bonds:
            values[:, blank.positions_of(bond.chosen)] = self._bond_blocks(bond)
        partner = _partners(pairs)
        return {
            name: _hermitian(blank.with_values(v), partner)
            for name, v in zip(self.names, values, strict=True)
        }

    def unlearned(self, atoms: Atoms, pairs: Pairs) -> Mask:
        """(P,) whether the block of a pair is zero only because no data reach as far."""
        limits, bounded = self._limits()
        lengths, kinds = self._lengths(atoms, pairs)
        mask: Mask = (lengths >= limits[kinds]) & ~bounded[kinds] & ~pairs.are_sites
        return mask

    def _short_enough(self, atoms: Atoms, pairs: Pairs) -> Mask:
        """(P,) whether the block of a pair is predicted."""
        lengths, kinds = self._lengths(atoms, pairs)
        mask: Mask = lengths < self._limits()[0][kinds]
        return mask

    def _limits(self) -> tuple[Floats, Mask]:
        """Largest lengths of bonds of all two species, and whether the data show longer ones."""
        species = self.features.species
        limits = np.zeros((len(species),) * 2)
        bounded: Mask = np.zeros_like(limits, dtype=bool)
        for two, farthest in self.farthest.items():
            length = self.longest.get(two, 0.0)
            known = farthest > length + _MARGIN_A
            a, b = np.searchsorted(species, two)
            if length:
                limits[[a, b], [b, a]] = length + (_MARGIN_A if known else _EXTRAPOLATED_A)
            bounded[[a, b], [b, a]] = known
        return limits, bounded

    def _lengths(self, atoms: Atoms, pairs: Pairs) -> tuple[Floats, tuple[Ints, Ints]]:
        """Lengths (P,) of pairs, and the indices of their species."""
        kind = np.searchsorted(self.features.species, atoms.numbers)
        vectors = vectors_of(atoms, pairs.first, pairs.second, pairs.shifts)
        return np.linalg.norm(vectors, axis=1), (kind[pairs.first], kind[pairs.second])

    def _site_blocks(self, site: Sites) -> Floats:
        """Blocks (matrices, sites, orbitals, orbitals)."""
        tensors: dict[TensorKind, list[Floats]] = {}
        for problem, coefficients in self.coefficients.items():
            if problem[0] == site.species:
                kind: TensorKind = problem[1]
                found = self.features.of_site(site, kind) @ coefficients
                tensors[kind] = np.split(found, len(self.names), axis=2)
        shells = self.features.shells[site.species]
        return np.array(
            [
                from_tensors({kind: t[k] for kind, t in tensors.items()}, shells)
                for k in range(len(self.names))
            ]
        )

    def _bond_blocks(self, bond: Bonds) -> Floats:
        """Blocks (matrices, bonds, orbitals, orbitals)."""
        numbers: dict[Weight, list[Complex]] = {}
        for problem, coefficients in self.coefficients.items():
            if problem[0] == bond.species:
                weight: Weight = problem[1]
                found = as_complex(self.features.of_bond(bond, weight) @ coefficients, weight)
                numbers[weight] = np.split(found, len(self.names), axis=1)
        shells = self.features.shells
        ends = shells[bond.species[0]], shells[bond.species[1]]
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


def stacked(predictors: Sequence[FittedMatrices]) -> FittedMatrices:
    """One predictor of all matrices of several, of which the k-th are called ``name k``.

    The features of a structure, which take most of the time, are then computed only once.
    """
    one = predictors[0]
    return replace(
        one,
        names=[f"{name} {k}" for k in range(len(predictors)) for name in one.names],
        coefficients={
            problem: np.concatenate([p.coefficients[problem] for p in predictors], axis=1)
            for problem in one.coefficients
        },
    )


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

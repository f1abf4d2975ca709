"""A test of the order and signs of orbitals that needs only an overlap matrix."""

import numpy as np
from ase import Atoms

from otf.electrons.bond_features import frames, to_weights, turned
from otf.electrons.environment import vectors_of
from otf.electrons.harmonics import rotation_matrices
from otf.orbitals.block_matrices import BlockMatrix


def assert_round(overlap: BlockMatrix, atoms: Atoms, *, tolerance: float = 1e-8) -> None:
    """Assert that overlaps between two atoms are invariant under rotation about the bond."""
    pairs, numbers = overlap.pairs, overlap.numbers
    vectors = vectors_of(atoms, pairs.first, pairs.second, pairs.shifts)
    kinds = numbers[pairs.first], numbers[pairs.second]
    largest = 0.0
    for one in np.unique(numbers):
        for other in np.unique(numbers):
            bonds = np.flatnonzero((kinds[0] == one) & (kinds[1] == other) & ~pairs.are_sites)
            if not len(bonds):
                continue
            ends = overlap.shells[int(one)], overlap.shells[int(other)]
            turns = rotation_matrices(frames(vectors[bonds]), 3)
            for weight, values in to_weights(
                turned(overlap.blocks(bonds), turns, *ends), *ends
            ).items():
                if weight == 0:
                    largest = max(largest, np.abs(values).max())
                else:
                    assert np.abs(values).max() < tolerance
    assert largest > 0.1

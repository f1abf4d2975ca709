"""Distributions of the lengths of the bonds in the first frame, and numbers of broken bonds."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.neighborlist import natural_cutoffs, neighbor_list

from otf.analysis.blocks import block_estimate
from otf.analysis.curves import Curves
from otf.arrays import Floats, Ints
from otf.io.frames import Frames, of_one_system

_BOND = 1.2  # times the sum of covalent radii
_BROKEN = 1.5  # times its length in the first frame


def bonds(runs: Sequence[Frames], *, bin_A: float, reference: Frames | None = None) -> Curves:
    """Distribution of bond lengths for each pair of species, a density over Angstrom.

    A bond is a pair closer than 1.2 times the sum of its covalent radii in the first frame. It
    counts as broken in a frame where it is longer than 1.5 times its initial length.

    Parameters
    ----------
    reference
        The run whose first frame defines the bonds; by default the first run.
    """
    reference = reference or runs[0]
    of_one_system([reference, *runs])
    first = reference.atoms.copy()
    first.set_cell(reference.cells[0])
    first.positions = reference.positions[0]
    one, other, shift = neighbor_list("ijS", first, natural_cutoffs(first, mult=_BOND))
    once = (one < other) | ((one == other) & (shift @ [4, 2, 1] > 0))
    one, other, shift = one[once], other[once], shift[once]
    samples: Floats = np.concatenate([_lengths(run, first, one, other, shift) for run in runs])
    initial = np.linalg.norm(
        first.positions[other] + shift @ first.cell.array - first.positions[one], axis=1
    )
    kinds = np.sort(first.numbers[np.stack([one, other])], axis=0).T
    low, high = initial.min(initial=1.0) / _BROKEN, initial.max(initial=1.0) * _BROKEN
    edges = bin_A * np.arange(np.floor(low / bin_A), np.ceil(high / bin_A) + 1.0)
    y, numbers = {}, {}
    for pair in np.unique(kinds, axis=0):
        of_pair = (kinds == pair).all(axis=1)
        mine = samples[:, of_pair]
        name = "_".join(chemical_symbols[z] for z in pair)
        counts = np.array([np.histogram(row, edges)[0] for row in mine])
        y[f"density_{name}_per_A"] = block_estimate(counts / (mine.shape[1] * bin_A))
        numbers[f"length_{name}_A"] = block_estimate(mine.mean(axis=1))
        broken = (mine > _BROKEN * initial[of_pair]).sum(axis=1)
        numbers[f"broken_{name}"] = block_estimate(broken.astype(float))
    return Curves("bond lengths", "length_A", 0.5 * (edges[1:] + edges[:-1]), y, numbers)


def _lengths(run: Frames, first: Atoms, one: Ints, other: Ints, shift: Ints) -> Floats:
    """Bond lengths (frames, bonds), Angstrom.

    The atoms of a run may lie in other periodic images than those of ``first``.
    """
    cell = first.cell.complete().array
    moved = (run.positions[0] - first.positions) @ np.linalg.inv(cell)
    shift = shift - np.round(moved[other] - moved[one]).astype(np.int64) * first.pbc
    vectors = run.positions[:, other] - run.positions[:, one]
    vectors = vectors + np.einsum("bi,fij->fbj", shift, run.cells)
    found: Floats = np.linalg.norm(vectors, axis=2)
    return found

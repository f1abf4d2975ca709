"""Permutation test of whether two runs have the same radial distribution functions.

Under the hypothesis that they do, it makes no difference which run a block of frames came from. The
squared difference of the means, in units of the scatter of the blocks, is therefore compared with
its values for random assignments of the twenty blocks to the two runs. The test assumes neither
independent neighbouring bins nor normal distributions.
"""

from dataclasses import dataclass

import numpy as np

from otf.analysis.blocks import N_BLOCKS
from otf.analysis.curves import Curves
from otf.analysis.rdf import rdf, summed
from otf.arrays import Floats
from otf.errors import RunError
from otf.io.frames import Frames

_DEALS = 4000
_EQUAL = 0.01  # smallest p value at which equality is not rejected


@dataclass(frozen=True, eq=False)
class Comparison:
    """Result of the comparison of two runs.

    Attributes
    ----------
    p_value
        Share of the permutations that differ at least as much as the runs; small if the runs
        differ.
    difference_percent
        Area between the curves in per cent of the area below them.
    one, other
        Radial distribution functions of the two runs.
    """

    p_value: float
    difference_percent: float
    one: Curves
    other: Curves

    @property
    def equal(self) -> bool:
        """Whether equality is not rejected at the 1 % level."""
        return self.p_value >= _EQUAL


def compare(one: Frames, other: Frames, *, cutoff_A: float, bin_A: float) -> Comparison:
    """Compare g(r) of all pairs of species in two runs.

    Raises
    ------
    RunError
        If the runs are of different systems, or one has fewer than ten frames.
    """
    if sorted(one.atoms.numbers) != sorted(other.atoms.numbers):
        raise RunError(
            f"{other.name}: holds other atoms than {one.name}; compare runs of one system"
        )
    if not np.array_equal(one.atoms.pbc, other.atoms.pbc):
        raise RunError(
            f"{other.name}: has other periodic directions than {one.name}; give both a cell"
        )
    blocks = []
    for run in (one, other):
        try:
            blocks.append(summed([run], cutoff_A=cutoff_A, bin_A=bin_A).blocks())
        except ValueError as error:
            raise RunError(f"{run.name}: {error}; use a longer run") from error
    means = [b.mean(axis=0) for b in blocks]
    area = np.abs(means[0] - means[1]).sum() / (0.5 * (means[0] + means[1]).sum())
    options = {"cutoff_A": cutoff_A, "bin_A": bin_A}
    return Comparison(
        p_value=_permuted(np.concatenate(blocks).reshape(2 * N_BLOCKS, -1)),
        difference_percent=float(1e2 * area),
        one=rdf([one], **options),
        other=rdf([other], **options),
    )


def _permuted(blocks: Floats) -> float:
    """Share of permutations of the blocks (20, points) that differ at least as much as these."""
    scatter = blocks.std(axis=0)
    blocks = blocks[:, scatter > 0.0] / scatter[scatter > 0.0]
    rng = np.random.default_rng(0)  # fixed seed: reproducible results
    signs = np.where(np.arange(2 * N_BLOCKS) < N_BLOCKS, 1.0, -1.0)
    deals = np.array([signs, *(rng.permutation(signs) for _ in range(_DEALS))])
    size = np.sum((deals @ blocks) ** 2, axis=1)
    return float(np.mean(size >= size[0] * (1.0 - 1e-12)))

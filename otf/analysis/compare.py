"""Permutation test of whether two runs have the same radial distribution functions.

Under the hypothesis that they do, it makes no difference which run a block of frames came from. The
squared difference of the means, in units of the scatter of the blocks, is therefore compared with
its values for random assignments of the blocks to the two runs. Blocks have as many frames in one
run as in the other, so frames should be equally far apart in time: ten blocks in the shorter run,
or fewer where frames are correlated for long (:mod:`otf.analysis.blocks`). The test assumes neither
independent neighbouring bins nor normal distributions.
"""

from dataclasses import dataclass

import numpy as np

from otf.analysis.blocks import length_of_blocks
from otf.analysis.curves import Curves
from otf.analysis.rdf import rdf, summed
from otf.arrays import Floats
from otf.errors import RunError
from otf.io.frames import Frames

_DEALS = 4000
_MOST_BLOCKS = 10  # of the shorter run: more and shorter ones would be correlated
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
        If the runs are of different systems, or one is too short for five independent blocks.
    """
    if sorted(one.atoms.numbers) != sorted(other.atoms.numbers):
        raise RunError(
            f"{other.name}: holds other atoms than {one.name}; compare runs of one system"
        )
    if not np.array_equal(one.atoms.pbc, other.atoms.pbc):
        raise RunError(
            f"{other.name}: has other periodic directions than {one.name}; give both a cell"
        )
    sums = [summed([run], cutoff_A=cutoff_A, bin_A=bin_A) for run in (one, other)]
    frames = min(total.frames for total in sums)
    tau = max(total.autocorrelation_time for total in sums)
    length = max(length_of_blocks(tau, frames), frames // _MOST_BLOCKS)
    blocks = []
    for run, total in zip((one, other), sums, strict=True):
        try:
            blocks.append(total.blocks(length))
        except ValueError as error:
            raise RunError(f"{run.name}: {error}; use a longer run") from error
    means = [b.mean(axis=0) for b in blocks]
    area = np.abs(means[0] - means[1]).sum() / (0.5 * (means[0] + means[1]).sum())
    options = {"cutoff_A": cutoff_A, "bin_A": bin_A}
    return Comparison(
        p_value=_permuted(*(b.reshape(len(b), -1) for b in blocks)),
        difference_percent=float(1e2 * area),
        one=rdf([one], **options),
        other=rdf([other], **options),
    )


def _permuted(one: Floats, other: Floats) -> float:
    """Share of permutations of the blocks (n, points) of both that differ at least as much."""
    blocks = np.concatenate([one, other])
    scatter = blocks.std(axis=0)
    blocks = blocks[:, scatter > 0.0] / scatter[scatter > 0.0]
    rng = np.random.default_rng(0)  # fixed seed: reproducible results
    weights = np.concatenate([np.full(len(b), 1.0 / len(b)) for b in (one, other)])
    weights[len(one) :] *= -1.0
    deals = np.array([weights, *(rng.permutation(weights) for _ in range(_DEALS))])
    size = np.sum((deals @ blocks) ** 2, axis=1)
    return float(np.mean(size >= size[0] * (1.0 - 1e-12)))

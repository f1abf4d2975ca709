"""Whether the radial distribution functions of two runs are equal within their errors.

Under the hypothesis that they are, it makes no difference which run a block of frames came from. So
the squared difference of the means, in units of the scatter of the blocks, is compared with what it
becomes when the twenty blocks are dealt out at random: a permutation test, which needs no
independence of neighbouring bins and no normal distributions.
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
_EQUAL = 0.01  # p value from which on nothing speaks against equality


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs side by side.

    Attributes
    ----------
    p_value
        Share of the deals that differ more than the runs do: small where they are not equal.
    difference_percent
        Area between the curves in per cent of the area below them.
    one, other
        Their radial distribution functions.
    """

    p_value: float
    difference_percent: float
    one: Curves
    other: Curves

    @property
    def equal(self) -> bool:
        """Whether nothing speaks against equality, at 99 % confidence."""
        return self.p_value >= _EQUAL


def compare(one: Frames, other: Frames, *, cutoff_A: float, bin_A: float) -> Comparison:
    """Compare g(r) of all pairs of species.

    Raises
    ------
    RunError
        If the runs are of different systems, or have fewer than ten frames.
    """
    if sorted(one.atoms.numbers) != sorted(other.atoms.numbers):
        raise RunError(f"{other.name}: holds other atoms than {one.name}; there is no comparing")
    if not np.array_equal(one.atoms.pbc, other.atoms.pbc):
        raise RunError(f"{other.name}: is periodic otherwise than {one.name}; give both a cell")
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
    """Share of deals of the blocks (20, points) into halves that differ more than these do."""
    scatter = blocks.std(axis=0)
    blocks = blocks[:, scatter > 0.0] / scatter[scatter > 0.0]
    rng = np.random.default_rng(0)  # the same answer to the same question
    signs = np.where(np.arange(2 * N_BLOCKS) < N_BLOCKS, 1.0, -1.0)
    deals = np.array([signs, *(rng.permutation(signs) for _ in range(_DEALS))])
    size = np.sum((deals @ blocks) ** 2, axis=1)
    return float(np.mean(size >= size[0] * (1.0 - 1e-12)))

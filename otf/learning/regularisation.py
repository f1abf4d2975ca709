"""Strength of the prior and rank of the model, chosen anew as labels arrive.

With few labels the evidence decides; from then on the error of each recent label predicted without
it. What is left out is a whole snapshot together with those taken within the same 20 fs: the rows
of a snapshot determine each other, and so do snapshots a few steps apart, which would make a model
that follows their noise look good. The search walks on a grid of lambda, one step each way; another
rank must pay for itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from otf.arrays import Ints
from otf.model.normal_equations import NormalEquations, Solution

GRID = 10.0 ** np.arange(-6.0, 6.01, 0.5)
"""Values of lambda that are considered."""

FEW_BLOCKS = 5
"""Below this many blocks of labels the evidence decides."""

_FEWEST = 3  # blocks to leave out, whatever it costs
_ROWS_PER_COLUMN = 4  # beyond these many rows fewer blocks are left out: time grows with them
_GAIN = 0.97  # a candidate must bring the score below this fraction of the current one
_PATIENCE = 10  # search again when there are a tenth more labels
_UNHURRIED = 10  # up to this many labels every label is followed by a search


@dataclass(frozen=True)
class Regularisation:
    """The choice in force, and where the search stands.

    Attributes
    ----------
    rank
        Rank in use.
    position
        Index into :data:`GRID` for each rank that is considered.
    searched_at
        Number of labels at the last search.
    score
        Root mean square of the left-out residuals in units of the expected noise (NaN while the
        evidence decides).
    """

    rank: int
    position: Mapping[int, int]
    searched_at: int = 0
    score: float = field(default=float("nan"), compare=False)

    @property
    def strength(self) -> float:
        """The lambda in use."""
        return float(GRID[self.position[self.rank]])


def start(ranks: tuple[int, ...]) -> Regularisation:
    """Before anything is known: the lowest rank, lambda in the middle of the grid."""
    return Regularisation(rank=ranks[0], position=dict.fromkeys(ranks, len(GRID) // 2))


def is_due(current: Regularisation, n_labels: int) -> bool:
    """Whether enough labels have come in since the last search."""
    new = n_labels - current.searched_at
    return n_labels <= _UNHURRIED or _PATIENCE * new >= current.searched_at


def search(
    equations: NormalEquations, active: Mapping[int, Ints], current: Regularisation
) -> Regularisation:
    """The better of the current choice and its neighbours.

    Parameters
    ----------
    equations
        All that has been learned.
    active
        Columns of each rank.
    current
        The choice in force.
    """
    n_labels = equations.n_snapshots
    few = equations.n_blocks < FEW_BLOCKS
    score = _evidence if few else _left_out
    position = dict(current.position)
    best: dict[int, float] = {}
    for rank in position:
        scores = _scores(equations, active[rank], score, _around(position[rank]))
        if n_labels == 1 or not np.isfinite(list(scores.values())).all():
            # Nothing known yet, or at the edge of what floating point resolves: look everywhere.
            scores |= _scores(equations, active[rank], score, range(0, len(GRID), 2))
        position[rank] = min(scores, key=lambda i: scores[i])
        best[rank] = scores[position[rank]]
    rank = min(best, key=lambda r: best[r])
    stays = best[rank] > (best[current.rank] - 1.0 if few else _GAIN * best[current.rank])
    if stays:
        rank = current.rank
    return Regularisation(rank, position, n_labels, float("nan") if few else best[rank])


def _scores(
    equations: NormalEquations,
    active: Ints,
    score: Callable[[Solution | None], float],
    positions: range,
) -> dict[int, float]:
    return {i: score(equations.solve(active, float(GRID[i]))) for i in positions}


def _around(i: int) -> range:
    return range(max(0, i - 1), min(len(GRID), i + 2))


def _evidence(solution: Solution | None) -> float:
    return float("inf") if solution is None else solution.evidence()


def _left_out(solution: Solution | None) -> float:
    """Root mean square of the residuals of the latest blocks, each left out in turn."""
    if solution is None:
        return float("inf")
    blocks = solution.equations.blocks()
    rows = np.cumsum([len(targets) for _, targets in blocks[::-1]])
    affordable = int(np.count_nonzero(rows <= _ROWS_PER_COLUMN * len(solution.active)))
    try:
        residuals = [solution.left_out(*b) for b in blocks[-max(affordable, _FEWEST) :]]
    except np.linalg.LinAlgError:  # the prior is too weak to predict a block without itself
        return float("inf")
    score = float(np.sqrt(np.mean(np.concatenate(residuals) ** 2)))
    return score if np.isfinite(score) else float("inf")

"""Choice of prior strength and polynomial order, updated as labels arrive.

With few labels the evidence is maximised, later the left-out error of recent labels is minimised.
Snapshots within the same 20 fs are left out together: the rows of a snapshot are correlated, and so
are snapshots a few steps apart, which would favour a model that fits their noise. The search takes
one step on a grid of lambda along the slope of the score, which follows from the Cholesky factor of
the solve. The order changes only if the score improves by a margin.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from otf.model.equations import Block, Equations, Solution

GRID = 10.0 ** np.arange(-8.0, 6.01, 0.5)
"""Values of lambda that are considered."""

FEW_BLOCKS = 5
"""Below this many blocks of labels the evidence is the score."""

GAIN = 0.97
"""A candidate must bring the score below this fraction of the current one."""

_LOWEST_BY_EVIDENCE = int(np.argmin(np.abs(np.log(GRID / 0.1))))
"""Smallest lambda by evidence: a few labels one step apart are interpolated by any model, and the
evidence would favour no prior at all and wild extrapolation."""

_STEP = float(np.log(GRID[1] / GRID[0]))
_FEWEST = 3  # blocks to leave out at any cost
_ROWS_PER_COLUMN = 0.3  # limit on the rows of left-out blocks, whose cost grows with them
_WORTH_LEFT_OUT = 0.005  # relative improvement of the left-out error that justifies a step
_WORTH_EVIDENCE = 1.0  # the same for -2 log evidence
_PATIENCE = 10  # search again after a tenth more labels
_UNHURRIED = 10  # number of labels up to which each is followed by a search


@dataclass(frozen=True)
class Regularisation:
    """The choice in use, and the state of the search.

    Attributes
    ----------
    order
        Polynomial order in use.
    position
        Index into :data:`GRID` for each order.
    searched_at
        Number of labels at the last search.
    score
        Root mean square of the left-out residuals in units of the expected noise (NaN while the
        evidence is the score).
    """

    order: int
    position: Mapping[int, int]
    searched_at: int = 0
    score: float = field(default=float("nan"), compare=False)

    @property
    def strength(self) -> float:
        """The lambda in use."""
        return float(GRID[self.position[self.order]])


def start(orders: tuple[int, ...]) -> Regularisation:
    """Initial choice: the lowest order, lambda 1."""
    position = int(np.argmin(np.abs(np.log(GRID))))
    return Regularisation(order=orders[0], position=dict.fromkeys(orders, position))


def is_due(current: Regularisation, n_labels: int) -> bool:
    """Whether enough labels were added since the last search."""
    new = n_labels - current.searched_at
    return n_labels <= _UNHURRIED or _PATIENCE * new >= current.searched_at


def search(
    equations: Equations,
    leading: Mapping[int, int],
    current: Regularisation,
    *,
    thorough: bool = False,
) -> Regularisation:
    """Take one step from the current choice towards a better one.

    Parameters
    ----------
    equations
        Normal equations of all labels.
    leading
        Number of columns of each order.
    current
        The choice in use.
    thorough
        Leave out all blocks that are kept, whatever the cost; scores are comparable only if the
        same blocks were left out.
    """
    judged = _judge(equations, leading, current.position, thorough=thorough)
    position = {order: j.position + j.step for order, j in judged.items()}
    return _decide(equations, current, judged, position)


def converge(
    equations: Equations,
    leading: Mapping[int, int],
    current: Regularisation,
    *,
    thorough: bool = False,
) -> Regularisation:
    """Search until a position repeats, and return the best choice tried."""
    best: dict[int, _Judged] = {}
    position, seen = dict(current.position), []
    while position not in seen:
        seen.append(position)
        judged = _judge(equations, leading, position, thorough=thorough)
        for order, j in judged.items():
            if order not in best or j.score < best[order].score:
                best[order] = j
        position = {order: j.position + j.step for order, j in judged.items()}
    return _decide(equations, current, best, {order: j.position for order, j in best.items()})


@dataclass(frozen=True)
class _Judged:
    """Score of an order at a position of the grid, and the step to take from there."""

    score: float
    position: int
    step: int


def _judge(
    equations: Equations,
    leading: Mapping[int, int],
    position: Mapping[int, int],
    *,
    thorough: bool,
) -> dict[int, _Judged]:
    """Score every order at its position, or at the next larger lambda that can be solved."""
    few = equations.n_blocks < FEW_BLOCKS
    latest = None if thorough else _affordable(equations, max(leading.values()))
    blocks = [] if few else equations.blocks(latest)
    weight = equations.weight(latest)
    lowest, highest = (_LOWEST_BY_EVIDENCE if few else 0), len(GRID) - 1
    out = {}
    for order, start_at in position.items():
        for at in range(max(start_at, lowest), len(GRID)):
            solution = equations.solve(leading[order], float(GRID[at]))
            found = None
            if solution is not None:
                found = _by_evidence(solution) if few else _by_leaving_out(solution, blocks, weight)
            if found is not None:
                step = min(max(at + found[1], lowest), highest) - at
                out[order] = _Judged(found[0], at, step)
                break
        else:
            out[order] = _Judged(float("inf"), highest, 0)
    return out


def _decide(
    equations: Equations,
    current: Regularisation,
    judged: Mapping[int, _Judged],
    position: Mapping[int, int],
) -> Regularisation:
    """Change the order only if the score improves by a margin."""
    few = equations.n_blocks < FEW_BLOCKS
    order = min(judged, key=lambda r: judged[r].score)
    kept = judged[current.order].score
    if judged[order].score > (kept - _WORTH_EVIDENCE if few else GAIN * kept):
        order = current.order
    score = float("nan") if few else judged[order].score
    return Regularisation(order, dict(position), equations.n_snapshots, score)


def _by_evidence(solution: Solution) -> tuple[float, int]:
    """Score by the evidence, and the step to take."""
    slope = solution.evidence_slope() * _STEP
    return solution.evidence(), -int(np.sign(slope)) if abs(slope) > _WORTH_EVIDENCE else 0


def _affordable(equations: Equations, n_columns: int) -> int:
    """Number of latest blocks to leave out at acceptable cost for so many columns."""
    rows = np.cumsum(equations.block_rows()[::-1])
    return max(int(np.count_nonzero(rows <= _ROWS_PER_COLUMN * n_columns)), _FEWEST)


def _by_leaving_out(
    solution: Solution, blocks: list[Block], weight: float
) -> tuple[float, int] | None:
    """Score by the left-out residuals of the blocks, of total ``weight``, and the step to take."""
    left_out = solution.left_out(blocks)
    if left_out is None:
        return None
    residual, slope = left_out
    square = float(residual @ residual)
    score = float(np.sqrt(square / weight))
    if not np.isfinite(score):
        return None
    change = float(residual @ slope) / max(square, 1e-300) * _STEP
    return score, -int(np.sign(change)) if abs(change) > _WORTH_LEFT_OUT else 0

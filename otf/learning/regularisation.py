"""Strength of the prior and order of the model, chosen anew as labels arrive.

With few labels the evidence decides; from then on the error of each recent label predicted without
it. What is left out is a whole snapshot together with those taken within the same 20 fs: the rows
of a snapshot determine each other, and so do snapshots a few steps apart, which would make a model
that follows their noise look good. The search takes one step on a grid of lambda, down the slope of
what decides; the slope comes from the factor the solve has made anyway. Another order must pay for
itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from otf.model.normal_equations import NormalEquations, Rows, Solution

GRID = 10.0 ** np.arange(-8.0, 6.01, 0.5)
"""Values of lambda that are considered."""

FEW_BLOCKS = 5
"""Below this many blocks of labels the evidence decides."""

GAIN = 0.97
"""A candidate must bring the score below this fraction of the current one."""

_LOWEST_BY_EVIDENCE = int(np.argmin(np.abs(np.log(GRID / 0.1))))
"""Few labels a step apart are interpolated by anything, and the evidence asks for no prior at all;
what lies ahead is then extrapolated wildly."""

_STEP = float(np.log(GRID[1] / GRID[0]))
_FEWEST = 3  # blocks to leave out, whatever it costs
_ROWS_PER_COLUMN = 0.3  # beyond these many rows fewer blocks are left out: time grows with them
_WORTH_LEFT_OUT = 0.005  # relative improvement that is worth a step
_WORTH_EVIDENCE = 1.0  # the same for -2 log evidence
_PATIENCE = 10  # search again when there are a tenth more labels
_UNHURRIED = 10  # up to this many labels every label is followed by a search


@dataclass(frozen=True)
class Regularisation:
    """The choice in force, and where the search stands.

    Attributes
    ----------
    order
        Rank in use.
    position
        Index into :data:`GRID` for each order that is considered.
    searched_at
        Number of labels at the last search.
    score
        Root mean square of the left-out residuals in units of the expected noise (NaN while the
        evidence decides).
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
    """Before anything is known: the lowest order, lambda 1."""
    position = int(np.argmin(np.abs(np.log(GRID))))
    return Regularisation(order=orders[0], position=dict.fromkeys(orders, position))


def is_due(current: Regularisation, n_labels: int) -> bool:
    """Whether enough labels have come in since the last search."""
    new = n_labels - current.searched_at
    return n_labels <= _UNHURRIED or _PATIENCE * new >= current.searched_at


def search(
    equations: NormalEquations,
    leading: Mapping[int, int],
    current: Regularisation,
    *,
    thorough: bool = False,
) -> Regularisation:
    """One step from the current choice towards a better one.

    Parameters
    ----------
    equations
        All that has been learned.
    leading
        Number of columns of each order.
    current
        The choice in force.
    thorough
        Leave out all blocks that are kept, whatever the time; scores are comparable only where the
        same blocks were left out.
    """
    judged = _judge(equations, leading, current.position, thorough=thorough)
    position = {order: j.position + j.step for order, j in judged.items()}
    return _decide(equations, current, judged, position)


def converge(
    equations: NormalEquations,
    leading: Mapping[int, int],
    current: Regularisation,
    *,
    thorough: bool = False,
) -> Regularisation:
    """Search until it comes back to where it has been; the best of what was tried."""
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
    """Score of a order at a position of the grid, and the step it advises."""

    score: float
    position: int
    step: int


def _judge(
    equations: NormalEquations,
    leading: Mapping[int, int],
    position: Mapping[int, int],
    *,
    thorough: bool,
) -> dict[int, _Judged]:
    """Every order where it stands, or as near above as floating point allows."""
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
    equations: NormalEquations,
    current: Regularisation,
    judged: Mapping[int, _Judged],
    position: Mapping[int, int],
) -> Regularisation:
    """Another order only where it pays for itself."""
    few = equations.n_blocks < FEW_BLOCKS
    order = min(judged, key=lambda r: judged[r].score)
    kept = judged[current.order].score
    if judged[order].score > (kept - _WORTH_EVIDENCE if few else GAIN * kept):
        order = current.order
    score = float("nan") if few else judged[order].score
    return Regularisation(order, dict(position), equations.n_snapshots, score)


def _by_evidence(solution: Solution) -> tuple[float, int]:
    """Score, and the step it advises."""
    slope = solution.evidence_slope() * _STEP
    return solution.evidence(), -int(np.sign(slope)) if abs(slope) > _WORTH_EVIDENCE else 0


def _affordable(equations: NormalEquations, n_columns: int) -> int:
    """How many of the latest blocks time allows to leave out with so many columns."""
    rows = np.cumsum(equations.block_rows()[::-1])
    return max(int(np.count_nonzero(rows <= _ROWS_PER_COLUMN * n_columns)), _FEWEST)


def _by_leaving_out(
    solution: Solution, blocks: list[Rows], weight: float
) -> tuple[float, int] | None:
    """The same from the residuals of blocks, each left out in turn; ``weight`` is that of all."""
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

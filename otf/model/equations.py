"""Equations of a ridge problem that accumulate rows, and their solutions.

They are solved in the primal form (:mod:`otf.model.normal_equations`) or, with fewer rows than
columns, in the dual form (:mod:`otf.model.dual_equations`).
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from otf.arrays import Floats


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Rows of one label.

    Attributes
    ----------
    rows, targets
        (m, n) and (m,), in units of their expected noise.
    block
        Labels close together in time share a block and are left out together, because they are
        strongly correlated.
    weight
        Weight after forgetting.
    number
        Number of snapshots before it.
    """

    rows: Floats
    targets: Floats
    block: int
    weight: float
    number: int


Block = Sequence[Snapshot]
"""Snapshots that are left out of the fit together."""


def scaled(block: Block) -> tuple[Floats, Floats]:
    """Rows (m, n) and targets (m,) of a block, times the square roots of their weights."""
    rows = [np.sqrt(s.weight) * s.rows for s in block]
    targets = [np.sqrt(s.weight) * s.targets for s in block]
    return np.concatenate(rows), np.concatenate(targets)


class Solution(Protocol):
    """Coefficients of the leading columns, with what follows from the factor of the equations."""

    @property
    def coefficients(self) -> Floats:
        """(leading,) theta."""
        ...

    def leverage(self, rows: Floats) -> Floats:
        """x^T A^-1 x of each row, (m,)."""
        ...

    def samples(self, count: int) -> Floats:
        """Random coefficients (count, leading) of covariance A^-1, the same at each call."""
        ...

    def left_out(self, blocks: Sequence[Block]) -> tuple[Floats, Floats] | None:
        """Residuals of the rows of each block when it is left out of the fit.

        Returns
        -------
        residuals, slopes
            Left-out residuals of all rows in the given order, scaled as by :func:`scaled`, and
            their derivatives by the logarithm of lambda; None if the prior is too weak to leave a
            block out.
        """
        ...

    def left_out_leverage(self, snapshot: Snapshot) -> Floats:
        """Leverage of each row (m,) of a snapshot when it is left out of the fit."""
        ...

    def evidence(self) -> float:
        """-2 log of the marginal likelihood, up to a constant; smaller is better."""
        ...

    def evidence_slope(self) -> float:
        """Derivative of :meth:`evidence` by the logarithm of lambda."""
        ...


class Equations(ABC):
    """Accumulated equations of a ridge problem with a diagonal prior.

    Parameters
    ----------
    prior
        (n,) diagonal of Lambda, positive.
    keep_blocks
        Number of latest blocks that can be left out.

    Attributes
    ----------
    snapshots
        Those whose rows are kept, in the order of adding.
    n_snapshots, n_blocks
        Number of all snapshots and of all blocks.
    weighted_rows, square
        Sums of the weights of all rows, and of their targets squared.
    """

    def __init__(self, prior: Floats, *, keep_blocks: int = 12) -> None:
        self.prior = prior
        self.keep_blocks = keep_blocks
        self.n_snapshots = 0
        self.n_blocks = 0
        self.weighted_rows = 0.0
        self.square = 0.0
        self.snapshots: list[Snapshot] = []

    @property
    @abstractmethod
    def n_unknowns(self) -> int:
        """Size of the matrix that is factorised."""

    @abstractmethod
    def solve(self, leading: int, strength: float) -> Solution | None:
        """Ridge solution on the leading columns; the last one of each length is cached.

        Parameters
        ----------
        leading
            Number of columns used; the other coefficients are zero.
        strength
            lambda.

        Returns
        -------
        Solution, or None if lambda is too small for the matrix to be positive definite in
        floating point.
        """

    def add(self, rows: Floats, targets: Floats, *, block: int, forgetting: float = 1.0) -> None:
        """Add one snapshot, after multiplying the weights of earlier ones by ``forgetting``.

        Parameters
        ----------
        rows, targets
            (m, n) and (m,), divided by their expected noise.
        block
            See :class:`Snapshot`; numbered from 0.
        """
        if block not in {s.block for s in self.snapshots}:
            self.n_blocks += 1
        self.square = forgetting * self.square + float(np.vdot(targets, targets))
        self.weighted_rows = forgetting * self.weighted_rows + len(targets)
        self.snapshots = [replace(s, weight=forgetting * s.weight) for s in self.snapshots]
        self.snapshots.append(Snapshot(rows, targets, block, 1.0, self.n_snapshots))
        self.n_snapshots += 1

    def blocks(self, latest: int | None = None) -> list[Block]:
        """The latest blocks, or all that can be left out, the latest last."""
        numbers = self._numbers(latest)
        return [[s for s in self.snapshots if s.block == block] for block in numbers]

    def block_rows(self) -> list[int]:
        """Number of rows in each of the blocks that can be left out, the latest last."""
        counts = Counter[int]()
        for s in self.snapshots:
            counts[s.block] += len(s.targets)
        return [counts[block] for block in self._numbers(None)]

    def weight(self, latest: int | None = None) -> float:
        """Sum of the weights of the rows of these blocks."""
        chosen = set(self._numbers(latest))
        return sum(s.weight * len(s.targets) for s in self.snapshots if s.block in chosen)

    def _numbers(self, latest: int | None) -> list[int]:
        numbers = sorted({s.block for s in self.snapshots})
        kept = [block for block in numbers if block > numbers[-1] - max(1, self.keep_blocks)]
        return kept if latest is None else kept[-latest:]

r"""Ridge regression by normal equations, for more rows than columns.

.. math::

   G \leftarrow w G + X^T X, \qquad b \leftarrow w b + X^T y, \qquad
   A \theta = b, \quad A = G + \lambda \Lambda

The prior :math:`\lambda\Lambda` is not subject to forgetting, so directions that are no longer
excited stay bounded when w < 1.

==========================================================  =====================================
formula                                                     code
==========================================================  =====================================
G, b with forgetting w                                      :meth:`NormalEquations.add`
A theta = b, Cholesky                                       :meth:`NormalEquations.solve`
e_B = (1 - H_BB)^-1 r_B, H = X A^-1 X^T                     :meth:`NormalSolution.left_out`
de_B / dln(lambda) = (1 - H_BB)^-1 X A^-1 lambda Lambda t,  :meth:`NormalSolution.left_out`
t = theta - A^-1 X^T e_B
m log s^2 + log|A| - log|lambda Lambda|,                    :meth:`NormalSolution.evidence`
m s^2 = y^T y - b^T theta
lambda theta^T Lambda theta / s^2 - tr H                    :meth:`NormalSolution.evidence_slope`
x^T A^-1 x                                                  :meth:`NormalSolution.leverage`
L^-T z, z normal                                            :meth:`NormalSolution.samples`
==========================================================  =====================================

Sources: Bishop, Pattern Recognition and Machine Learning (2006), sec. 3.3 and 3.5 (posterior,
evidence); Seber and Lee, Linear Regression Analysis (2003), sec. 10.6 (leave-out residuals). The
slopes are derivatives of these formulas.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from otf.arrays import Floats
from otf.model.equations import Block, Equations, Snapshot, scaled
from otf.model.triangular import (
    add_outer,
    back,
    cholesky,
    forward,
    inverse_factor,
    solve,
    solved,
)

_MOST_BYTES = 500_000_000  # of the rows kept, beyond the fewest blocks
_FEWEST_BLOCKS = 3
_BARELY = 1e-12  # avoids an infinite leverage of rows determined by themselves only

Rows = tuple[Floats, Floats]
"""Rows (m, n) with their targets (m,); or a residual and a slope for each."""


class NormalEquations(Equations):
    """Sums over all rows; only those of the latest blocks are kept.

    Memory does not grow with the history.

    Parameters
    ----------
    prior
        (n,) diagonal of Lambda, positive.
    keep_blocks
        Number of latest blocks (fewer if they are large) whose rows are kept for cross-validation.
    outputs
        Number of right-hand sides: targets are then (m, outputs), and only :meth:`add`,
        :meth:`solve`, leverages and :meth:`NormalSolution.left_out_residuals` support them. None
        for targets (m,).
    """

    def __init__(self, prior: Floats, *, keep_blocks: int = 12, outputs: int | None = None) -> None:
        super().__init__(prior, keep_blocks=keep_blocks)
        n = len(prior)
        self.gram: Floats = np.zeros((n, n), order="F")  # only the lower triangle is used
        self.moment: Floats = np.zeros(n if outputs is None else (n, outputs))
        self._solved: dict[int, NormalSolution] = {}

    @property
    def n_unknowns(self) -> int:
        """Number of columns."""
        return len(self.prior)

    def add(self, rows: Floats, targets: Floats, *, block: int, forgetting: float = 1.0) -> None:
        """See :meth:`Equations.add`."""
        self.forget_solutions()
        super().add(rows, targets, block=block, forgetting=forgetting)
        self.gram = add_outer(self.gram, rows, 1.0, beta=forgetting)
        self.moment *= forgetting
        self.moment += rows.T @ targets
        self.snapshots = [
            s
            for s in self.snapshots
            if s.block > block - self.keep_blocks or s.number == self.n_snapshots - 1
        ]
        while sum(s.rows.nbytes for s in self.snapshots) > _MOST_BYTES:
            oldest = self.snapshots[0].block
            if oldest > block - _FEWEST_BLOCKS:
                break
            self.snapshots = [s for s in self.snapshots if s.block != oldest]

    def forget_solutions(self) -> None:
        """Discard cached solutions."""
        self._solved.clear()

    def solve(self, leading: int, strength: float) -> "NormalSolution | None":
        """See :meth:`Equations.solve`."""
        known = self._solved.get(leading)
        if known is not None and known.strength == strength:
            return known
        matrix = np.array(self.gram[:leading, :leading], order="F")
        matrix[np.diag_indices(leading)] += strength * self.prior[:leading]
        factor = cholesky(matrix)
        if factor is None:
            return None
        theta = solve(factor, self.moment[:leading])
        solution = NormalSolution(self, strength, theta, factor)
        self._solved[leading] = solution
        return solution


@dataclass(frozen=True, eq=False)
class NormalSolution:
    """Coefficients of the leading columns and the Cholesky factor.

    See :class:`otf.model.equations.Solution`.
    """

    equations: NormalEquations
    strength: float
    coefficients: Floats
    factor: Floats

    @property
    def leading(self) -> int:
        """Number of columns used."""
        return len(self.coefficients)

    def leverage(self, rows: Floats) -> Floats:
        """x^T A^-1 x of each row, (m,)."""
        white = self._whitened(rows)
        return np.asarray(np.einsum("nm,nm->m", white, white))

    def samples(self, count: int) -> Floats:
        """Random coefficients (count, leading) of covariance A^-1, the same at each call."""
        normal = np.random.default_rng(0).standard_normal((count, self.leading))
        return np.ascontiguousarray(back(self.factor, np.asfortranarray(normal.T)).T)

    def left_out(self, blocks: Sequence[Block]) -> tuple[Floats, Floats] | None:
        """See :meth:`otf.model.equations.Solution.left_out`."""
        rows = [scaled(block) for block in blocks]
        few = [2 * len(targets) <= self.leading for _, targets in rows]
        by_hat = iter(self._by_hat([b for b, small in zip(rows, few, strict=True) if small]))
        found = [
            next(by_hat) if small else self._downdated(*block)
            for block, small in zip(rows, few, strict=True)
        ]
        known = [f for f in found if f is not None]
        if len(known) < len(found):
            return None
        return np.concatenate([f[0] for f in known]), np.concatenate([f[1] for f in known])

    def left_out_residuals(self, blocks: Sequence[Block]) -> Floats | None:
        """Residuals as from :meth:`left_out`, for any number of right-hand sides, (m, outputs)."""
        found = self._hat([scaled(block) for block in blocks]).residuals
        known = [residual for residual in found if residual is not None]
        return np.concatenate(known) if len(known) == len(found) else None

    def left_out_leverage(self, snapshot: Snapshot) -> Floats:
        """Leverage of each row (m,) of a snapshot when it is left out of the fit.

        It is the diagonal of H (1 - H)^-1.
        """
        white = self._whitened(scaled([snapshot])[0])
        hat = white.T @ white
        system = np.eye(len(hat)) - hat
        system[np.diag_indices(len(hat))] += _BARELY
        without = np.linalg.solve(system, hat)
        return np.asarray(np.maximum(np.diag(without), 0.0) / snapshot.weight)

    def _by_hat(self, blocks: Sequence[Rows]) -> list[Rows | None]:
        """Residuals and slopes of small blocks, batched for cache efficiency."""
        if not blocks:
            return []
        hat = self._hat(blocks)
        pushed = np.zeros((self.leading, len(blocks)), order="F")
        for column, (span, residual) in enumerate(zip(hat.spans, hat.residuals, strict=True)):
            if residual is not None:
                pushed[:, column] = hat.white[:, span] @ residual
        without = self.coefficients[:, None] - back(self.factor, pushed)
        moved = solve(self.factor, self._pull(without))
        out: list[Rows | None] = []
        for column, (span, residual) in enumerate(zip(hat.spans, hat.residuals, strict=True)):
            slope = None
            if residual is not None:
                slope = solved(hat.systems[column], hat.rows[span] @ moved[:, column])
            out.append(None if residual is None or slope is None else (residual, slope))
        return out

    def _hat(self, blocks: Sequence[Rows]) -> "_Hat":
        """Left-out residuals of each block, with the intermediate matrices."""
        x = np.concatenate([rows[:, : self.leading] for rows, _ in blocks])
        misfit = np.concatenate([targets for _, targets in blocks]) - x @ self.coefficients
        white = self._whitened(x)
        ends = np.cumsum([len(targets) for _, targets in blocks])
        spans = [slice(end - len(t), end) for end, (_, t) in zip(ends, blocks, strict=True)]
        systems = [np.eye(s.stop - s.start) - white[:, s].T @ white[:, s] for s in spans]
        residuals = [solved(h, misfit[s]) for h, s in zip(systems, spans, strict=True)]
        return _Hat(x, white, spans, systems, residuals)

    def _downdated(self, rows: Floats, targets: Floats) -> Rows | None:
        """The same by subtracting the rows from the equations; cheaper for large blocks."""
        equations, n = self.equations, self.leading
        x = rows[:, :n]
        matrix = add_outer(np.array(equations.gram[:n, :n], order="F"), x, -1.0)
        matrix[np.diag_indices(n)] += self.strength * equations.prior[:n]
        factor = cholesky(matrix)
        if factor is None:
            return None
        without = solve(factor, equations.moment[:n] - x.T @ targets)
        return targets - x @ without, x @ solve(factor, self._pull(without))

    def _pull(self, coefficients: Floats) -> Floats:
        """Prior term lambda Lambda theta of coefficients (leading, …)."""
        prior = self.strength * self.equations.prior[: self.leading]
        return np.asarray((prior * coefficients.T).T)

    def evidence(self) -> float:
        """-2 log of the marginal likelihood, up to a constant; smaller is better."""
        equations = self.equations
        log_prior = float(np.log(self.strength * equations.prior[: self.leading]).sum())
        log_det = 2.0 * float(np.log(np.diag(self.factor)).sum())
        return equations.weighted_rows * float(np.log(self._variance())) + log_det - log_prior

    def evidence_slope(self) -> float:
        """Derivative of :meth:`evidence` by the logarithm of lambda."""
        stiffness = float(self.coefficients @ self._pull(self.coefficients))
        return stiffness / self._variance() - self._determined()

    def _variance(self) -> float:
        """Misfit per row, including the prior term."""
        equations = self.equations
        misfit = equations.square - float(equations.moment[: self.leading] @ self.coefficients)
        return max(misfit, 1e-12 * max(equations.square, 1e-300)) / equations.weighted_rows

    def _determined(self) -> float:
        """Effective number of parameters, the trace of H."""
        inverse = inverse_factor(self.factor)
        held = np.einsum("ij,ij,j->", inverse, inverse, self.equations.prior[: self.leading])
        return self.leading - self.strength * float(held)

    def _whitened(self, rows: Floats) -> Floats:
        """L^-1 x^T for each row x, (leading, m)."""
        return forward(self.factor, np.ascontiguousarray(rows[:, : self.leading]).T)


@dataclass(frozen=True, eq=False)
class _Hat:
    """Matrices for leaving blocks out.

    Attributes
    ----------
    rows, white
        Rows of all blocks, (m, leading), and whitened, (leading, m).
    spans
        Slice of the rows of each block.
    systems
        1 - H of each block.
    residuals
        Left-out residuals of each block; None if it cannot be left out.
    """

    rows: Floats
    white: Floats
    spans: list[slice]
    systems: list[Floats]
    residuals: list[Floats | None]

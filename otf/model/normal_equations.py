r"""Ridge regression by normal equations that accumulate rows.

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
e_B = (1 - H_BB)^-1 r_B, H = X A^-1 X^T                     :meth:`Solution.left_out`
de_B / dln(lambda) = (1 - H_BB)^-1 X A^-1 lambda Lambda t,  :meth:`Solution.left_out`
t = theta - A^-1 X^T e_B
m log s^2 + log|A| - log|lambda Lambda|,                    :meth:`Solution.evidence`
m s^2 = y^T y - b^T theta
lambda theta^T Lambda theta / s^2 - tr H                    :meth:`Solution.evidence_slope`
x^T A^-1 x                                                  :meth:`Solution.leverage`
L^-T z, z normal                                            :meth:`Solution.samples`
==========================================================  =====================================

Sources: Bishop, Pattern Recognition and Machine Learning (2006), sec. 3.3 and 3.5 (posterior,
evidence); Seber and Lee, Linear Regression Analysis (2003), sec. 10.6 (leave-out residuals). The
slopes are derivatives of these formulas.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg.blas import dsyrk, dtrsm, dtrsv
from scipy.linalg.lapack import dpotrf, dtrtri

from otf.arrays import Floats

_MOST_BYTES = 500_000_000  # of the rows kept, beyond the fewest blocks
_FEWEST_BLOCKS = 3
_BARELY = 1e-12  # avoids an infinite leverage of rows determined by themselves only

Rows = tuple[Floats, Floats]
"""Rows (m, n) with their targets (m,); or a residual and a slope for each."""


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
    """

    rows: Floats
    targets: Floats
    block: int
    weight: float


class NormalEquations:
    """Accumulated equations of a ridge problem with a diagonal prior.

    Parameters
    ----------
    prior
        (n,) diagonal of Lambda, positive.
    keep_blocks
        Number of latest blocks (fewer if they are large) whose rows are kept for cross-validation;
        older rows remain in the accumulated equations only, so memory does not grow with the
        history.
    outputs
        Number of right-hand sides: targets are then (m, outputs), and only :meth:`add`,
        :meth:`solve`, leverages and :meth:`Solution.left_out_residuals` support them. None for
        targets (m,).
    """

    def __init__(self, prior: Floats, *, keep_blocks: int = 12, outputs: int | None = None) -> None:
        n = len(prior)
        self.prior = prior
        self.keep_blocks = keep_blocks
        self.n_snapshots = 0
        self.weighted_rows = 0.0
        self.n_blocks = 0
        self.gram: Floats = np.zeros((n, n), order="F")  # only the lower triangle is used
        self.moment: Floats = np.zeros(n if outputs is None else (n, outputs))
        self.square = 0.0
        self.snapshots: list[Snapshot] = []
        self._solved: dict[int, Solution] = {}

    def block_rows(self) -> list[int]:
        """Number of rows in each of the kept blocks, the latest last."""
        counts = Counter[int]()
        for s in self.snapshots:
            counts[s.block] += len(s.targets)
        return list(counts.values())

    def blocks(self, latest: int | None = None) -> list[Rows]:
        """Rows and targets of the latest blocks, or of all kept ones.

        They are scaled by the square roots of their weights.
        """
        numbers = sorted({s.block for s in self.snapshots})
        out = []
        for block in numbers if latest is None else numbers[-latest:]:
            members = [s for s in self.snapshots if s.block == block]
            rows = [np.sqrt(s.weight) * s.rows for s in members]
            targets = [np.sqrt(s.weight) * s.targets for s in members]
            out.append((np.concatenate(rows), np.concatenate(targets)))
        return out

    def weight(self, latest: int | None = None) -> float:
        """Sum of the weights of the rows of these blocks."""
        numbers = sorted({s.block for s in self.snapshots})
        chosen = set(numbers if latest is None else numbers[-latest:])
        return sum(s.weight * len(s.targets) for s in self.snapshots if s.block in chosen)

    def add(self, rows: Floats, targets: Floats, *, block: int, forgetting: float = 1.0) -> None:
        """Add one snapshot, after multiplying the weights of earlier ones by ``forgetting``.

        Parameters
        ----------
        rows, targets
            (m, n) and (m,), divided by their expected noise.
        block
            See :class:`Snapshot`; numbered from 0.
        """
        self.forget_solutions()
        self.gram = _add_outer(self.gram, rows, 1.0, beta=forgetting)
        self.moment *= forgetting
        self.moment += rows.T @ targets
        self.square = forgetting * self.square + float(np.vdot(targets, targets))
        if block not in {s.block for s in self.snapshots}:
            self.n_blocks += 1
        self.n_snapshots += 1
        self.weighted_rows = forgetting * self.weighted_rows + len(targets)
        self.snapshots = [
            replace(s, weight=forgetting * s.weight)
            for s in self.snapshots
            if s.block > block - self.keep_blocks
        ]
        self.snapshots.append(Snapshot(rows, targets, block, 1.0))
        while sum(s.rows.nbytes for s in self.snapshots) > _MOST_BYTES:
            oldest = self.snapshots[0].block
            if oldest > block - _FEWEST_BLOCKS:
                break
            self.snapshots = [s for s in self.snapshots if s.block != oldest]

    def forget_solutions(self) -> None:
        """Discard cached solutions."""
        self._solved.clear()

    def solve(self, leading: int, strength: float) -> "Solution | None":
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
        known = self._solved.get(leading)
        if known is not None and known.strength == strength:
            return known
        matrix = np.array(self.gram[:leading, :leading], order="F")
        matrix[np.diag_indices(leading)] += strength * self.prior[:leading]
        factor = _cholesky(matrix)
        if factor is None:
            return None
        theta = _solve(factor, self.moment[:leading])
        solution = Solution(self, strength, theta, factor)
        self._solved[leading] = solution
        return solution


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients of the leading columns and the Cholesky factor."""

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
        white = _whitened(self.factor, rows[:, : self.leading])
        return np.asarray(np.einsum("nm,nm->m", white, white))

    def samples(self, count: int) -> Floats:
        """Random coefficients (count, leading) of covariance A^-1, the same at each call."""
        normal = np.random.default_rng(0).standard_normal((count, self.leading))
        return np.ascontiguousarray(_back(self.factor, np.asfortranarray(normal.T)).T)

    def left_out(self, blocks: Sequence[Rows]) -> tuple[Floats, Floats] | None:
        """Residuals of the rows of each block when it is left out of the fit.

        Parameters
        ----------
        blocks
            Rows (m, n) and targets (m,), scaled by the square roots of their weights, as
            returned by :meth:`NormalEquations.blocks`.

        Returns
        -------
        residuals, slopes
            Left-out residuals of all rows in the given order, and their derivatives by the
            logarithm of lambda; None if the prior is too weak to leave a block out.
        """
        few = [2 * len(targets) <= self.leading for _, targets in blocks]
        by_hat = iter(self._by_hat([b for b, small in zip(blocks, few, strict=True) if small]))
        found = [
            next(by_hat) if small else self._downdated(*block)
            for block, small in zip(blocks, few, strict=True)
        ]
        known = [f for f in found if f is not None]
        if len(known) < len(found):
            return None
        return np.concatenate([f[0] for f in known]), np.concatenate([f[1] for f in known])

    def left_out_residuals(self, blocks: Sequence[Rows]) -> Floats | None:
        """Residuals as from :meth:`left_out`, for any number of right-hand sides, (m, outputs)."""
        found = self._hat(blocks).residuals
        known = [residual for residual in found if residual is not None]
        return np.concatenate(known) if len(known) == len(found) else None

    def left_out_leverage(self, rows: Floats) -> Floats:
        """Leverage of each row (m,) of a block when the block is left out of the fit.

        It is the diagonal of H (1 - H)^-1.
        """
        white = _whitened(self.factor, rows[:, : self.leading])
        hat = white.T @ white
        system = np.eye(len(hat)) - hat
        system[np.diag_indices(len(hat))] += _BARELY
        without = np.linalg.solve(system, hat)
        return np.asarray(np.maximum(np.diag(without), 0.0))

    def _by_hat(self, blocks: Sequence[Rows]) -> list[Rows | None]:
        """Residuals and slopes of small blocks, batched for cache efficiency."""
        if not blocks:
            return []
        hat = self._hat(blocks)
        pushed = np.zeros((self.leading, len(blocks)), order="F")
        for column, (span, residual) in enumerate(zip(hat.spans, hat.residuals, strict=True)):
            if residual is not None:
                pushed[:, column] = hat.white[:, span] @ residual
        without = self.coefficients[:, None] - _back(self.factor, pushed)
        moved = _solve(self.factor, self._pull(without))
        out: list[Rows | None] = []
        for column, (span, residual) in enumerate(zip(hat.spans, hat.residuals, strict=True)):
            slope = None
            if residual is not None:
                slope = _solved(hat.systems[column], hat.rows[span] @ moved[:, column])
            out.append(None if residual is None or slope is None else (residual, slope))
        return out

    def _hat(self, blocks: Sequence[Rows]) -> "_Hat":
        """Left-out residuals of each block, with the intermediate matrices."""
        x = np.concatenate([rows[:, : self.leading] for rows, _ in blocks])
        misfit = np.concatenate([targets for _, targets in blocks]) - x @ self.coefficients
        white = _whitened(self.factor, x)
        ends = np.cumsum([len(targets) for _, targets in blocks])
        spans = [slice(end - len(t), end) for end, (_, t) in zip(ends, blocks, strict=True)]
        systems = [np.eye(s.stop - s.start) - white[:, s].T @ white[:, s] for s in spans]
        residuals = [_solved(h, misfit[s]) for h, s in zip(systems, spans, strict=True)]
        return _Hat(x, white, spans, systems, residuals)

    def _downdated(self, rows: Floats, targets: Floats) -> Rows | None:
        """The same by subtracting the rows from the equations; cheaper for large blocks."""
        equations, n = self.equations, self.leading
        x = rows[:, :n]
        matrix = _add_outer(np.array(equations.gram[:n, :n], order="F"), x, -1.0)
        matrix[np.diag_indices(n)] += self.strength * equations.prior[:n]
        factor = _cholesky(matrix)
        if factor is None:
            return None
        without = _solve(factor, equations.moment[:n] - x.T @ targets)
        return targets - x @ without, x @ _solve(factor, self._pull(without))

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
        equations = self.equations
        rows = sum(equations.block_rows())
        complete = len(equations.snapshots) == equations.n_snapshots
        if complete and 3 * rows < self.leading:
            return sum(float(self.leverage(x).sum()) for x, _ in equations.blocks())
        inverse, _ = dtrtri(self.factor, lower=1)
        inverse = np.tril(inverse)
        held = np.einsum("ij,ij,j->", inverse, inverse, equations.prior[: self.leading])
        return self.leading - self.strength * float(held)


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


def _add_outer(matrix: Floats, rows: Floats, sign: float, *, beta: float = 1.0) -> Floats:
    """Lower triangle of beta * matrix + sign * rows^T rows, in place."""
    columns = np.ascontiguousarray(rows).T
    return np.asarray(dsyrk(sign, columns, beta=beta, c=matrix, lower=1, overwrite_c=1))


def _cholesky(matrix: Floats) -> Floats | None:
    """Lower factor, in place (the upper triangle is not cleared); None if not positive definite."""
    factor, failed = dpotrf(matrix, lower=1, overwrite_a=1, clean=0)
    return None if failed else np.asarray(factor)


def _whitened(factor: Floats, rows: Floats) -> Floats:
    """L^-1 x^T for each row x, (n, m)."""
    return np.asarray(dtrsm(1.0, factor, np.ascontiguousarray(rows).T, lower=1))


def _back(factor: Floats, vectors: Floats) -> Floats:
    """L^-T v of a vector (n,) or of columns (n, m)."""
    if vectors.ndim == 1:
        return np.asarray(dtrsv(factor, vectors, lower=1, trans=1))
    return np.asarray(dtrsm(1.0, factor, vectors, lower=1, trans_a=1))


def _solve(factor: Floats, vectors: Floats) -> Floats:
    """(L L^T)^-1 v of a vector (n,) or of columns (n, m)."""
    if vectors.ndim == 1:
        return _back(factor, dtrsv(factor, vectors, lower=1))
    return _back(factor, dtrsm(1.0, factor, vectors, lower=1))


def _solved(matrix: Floats, vector: Floats) -> Floats | None:
    """Solution of a small general system, or None if it is singular."""
    try:
        return np.asarray(np.linalg.solve(matrix, vector))
    except np.linalg.LinAlgError:
        return None

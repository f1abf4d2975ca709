r"""One linear solve, fed row by row.

.. math::

   G \leftarrow w G + X^T X, \qquad b \leftarrow w b + X^T y, \qquad
   (G + \lambda \Lambda)\,\theta = b

The prior :math:`\lambda\Lambda` is never forgotten, so directions that are no longer excited stay
bounded when w < 1.

==========================================================  =================================
formula                                                     code
==========================================================  =================================
G, b with forgetting w                                      :meth:`NormalEquations.add`
(G + lambda Lambda) theta = b, Cholesky                     :meth:`NormalEquations.solve`
e_B = (1 - H_BB)^-1 r_B, H = X (G + lambda Lambda)^-1 X^T   :meth:`Solution.left_out`
m log sigma^2 + log|G + lambda Lambda| - log|lambda Lambda| :meth:`Solution.evidence`
x^T (G + lambda Lambda)^-1 x                                :meth:`Solution.leverage`
==========================================================  =================================

Sources: Bishop, Pattern Recognition and Machine Learning (2006), sec. 3.3 and 3.5 (posterior,
evidence); Seber and Lee, Linear Regression Analysis (2003), sec. 10.6 (leaving rows out).
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular

from otf.arrays import Floats, Ints


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One label as the equations see it.

    Attributes
    ----------
    rows, targets
        (m, n) and (m,), in units of their expected noise.
    block
        Labels taken close together in time share a block and are left out together: one of them
        nearly determines the others.
    weight
        After forgetting.
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
        Rows are kept for the latest so many blocks only, for leaving them out; what is older lives
        on in the accumulated equations, so memory does not grow with the history.
    """

    def __init__(self, prior: Floats, *, keep_blocks: int = 12) -> None:
        n = len(prior)
        self.prior = prior
        self.keep_blocks = keep_blocks
        self.n_snapshots = 0
        self.n_rows = 0
        self.n_blocks = 0
        self.gram: Floats = np.zeros((n, n))
        self.moment: Floats = np.zeros(n)
        self.square = 0.0
        self.snapshots: list[Snapshot] = []

    def blocks(self) -> list[tuple[Floats, Floats]]:
        """Rows and targets of the blocks kept, scaled by the square root of their weights."""
        out = []
        for block in sorted({s.block for s in self.snapshots}):
            members = [s for s in self.snapshots if s.block == block]
            rows = [np.sqrt(s.weight) * s.rows for s in members]
            targets = [np.sqrt(s.weight) * s.targets for s in members]
            out.append((np.concatenate(rows), np.concatenate(targets)))
        return out

    def add(self, rows: Floats, targets: Floats, *, block: int, forgetting: float = 1.0) -> None:
        """Add one snapshot; everything before it is weighted by ``forgetting`` once more.

        Parameters
        ----------
        rows, targets
            (m, n) and (m,), already divided by their expected noise.
        block
            See :class:`Snapshot`; counted up from 0.
        """
        self.gram *= forgetting
        self.gram += rows.T @ rows
        self.moment *= forgetting
        self.moment += rows.T @ targets
        self.square = forgetting * self.square + float(targets @ targets)
        if not self.snapshots or self.snapshots[-1].block != block:
            self.n_blocks += 1
        self.n_snapshots += 1
        self.n_rows += len(targets)
        self.snapshots = [
            replace(s, weight=forgetting * s.weight)
            for s in self.snapshots
            if s.block > block - self.keep_blocks
        ]
        self.snapshots.append(Snapshot(rows, targets, block, 1.0))

    def solve(self, active: Ints, strength: float) -> "Solution | None":
        """Ridge solution on some of the columns.

        Parameters
        ----------
        active
            Indices of the columns used; the other coefficients are zero.
        strength
            lambda.

        Returns
        -------
        Solution, or None where lambda is too small for the matrix to be positive definite in
        floating point.
        """
        matrix = self.gram[np.ix_(active, active)]
        prior = strength * self.prior[active]
        matrix[np.diag_indices_from(matrix)] += prior
        try:
            factor = cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        half = solve_triangular(factor, self.moment[active], lower=True, check_finite=False)
        theta = solve_triangular(factor, half, lower=True, trans="T", check_finite=False)
        return Solution(self, active, strength, theta, factor)


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients (active columns) and the Cholesky factor they came from."""

    equations: NormalEquations
    active: Ints
    strength: float
    coefficients: Floats
    factor: Floats

    def theta(self) -> Floats:
        """All coefficients (n,), zero where a column is not active."""
        theta = np.zeros(len(self.equations.prior))
        theta[self.active] = self.coefficients
        return theta

    def leverage(self, rows: Floats) -> Floats:
        """x^T (G + lambda Lambda)^-1 x of each row, (m,)."""
        return leverage(self.factor, rows[:, self.active])

    def left_out(self, rows: Floats, targets: Floats) -> Floats:
        """Residuals these rows would have had, had they not been learned.

        Parameters
        ----------
        rows, targets
            (m, n) and (m,), scaled by the square root of their weight, as they were added.
        """
        x = rows[:, self.active]
        if len(targets) > len(self.active):
            kept: Floats = targets - x @ self._without(x, targets)
            return kept
        white = _whitened(self.factor, x)
        hat: Floats = white.T @ white
        residual: Floats = targets - x @ self.coefficients
        return np.asarray(np.linalg.solve(np.eye(len(targets)) - hat, residual))

    def _without(self, x: Floats, targets: Floats) -> Floats:
        """Coefficients without these rows; cheaper than the hat matrix when they are many."""
        equations, active = self.equations, self.active
        matrix = equations.gram[np.ix_(active, active)] - x.T @ x
        matrix[np.diag_indices_from(matrix)] += self.strength * equations.prior[active]
        kept = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        return np.asarray(cho_solve(kept, equations.moment[active] - x.T @ targets))

    def evidence(self) -> float:
        """-2 log of the marginal likelihood, up to a constant; smaller is better."""
        equations = self.equations
        misfit = equations.square - float(equations.moment[self.active] @ self.coefficients)
        rows = equations.n_rows
        misfit = max(misfit, 1e-12 * max(equations.square, 1e-300))
        log_prior = float(np.log(self.strength * equations.prior[self.active]).sum())
        log_det = 2.0 * float(np.log(np.diag(self.factor)).sum())
        return float(rows * np.log(misfit / rows)) + log_det - log_prior


def leverage(factor: Floats, rows: Floats) -> Floats:
    """x^T (L L^T)^-1 x of each row (m,), from the lower Cholesky factor L."""
    white = _whitened(factor, rows)
    return np.asarray(np.einsum("nm,nm->m", white, white))


def _whitened(factor: Floats, rows: Floats) -> Floats:
    """L^-1 x^T for each row x, (n, m)."""
    return np.asarray(solve_triangular(factor, rows.T, lower=True, check_finite=False))

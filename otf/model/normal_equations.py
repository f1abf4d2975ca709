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
e_S = (1 - H_SS)^-1 r_S, H = X (G + lambda Lambda)^-1 X^T   :meth:`Solution.left_out`
m log sigma^2 + log|G + lambda Lambda| - log|lambda Lambda| :meth:`Solution.evidence`
x^T (G + lambda Lambda)^-1 x                                :meth:`Solution.leverage`
==========================================================  =================================

Sources: Bishop, Pattern Recognition and Machine Learning (2006), sec. 3.3 and 3.5 (posterior,
evidence); Seber and Lee, Linear Regression Analysis (2003), sec. 10.6 (leaving rows out).
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from otf.arrays import Floats, Ints


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Weighted rows (m, n) and targets (m,) of one label, and its weight after forgetting."""

    rows: Floats
    targets: Floats
    weight: float


class NormalEquations:
    """Accumulated equations of a ridge problem with a diagonal prior.

    Parameters
    ----------
    prior
        (n,) diagonal of Lambda, positive.
    """

    def __init__(self, prior: Floats) -> None:
        n = len(prior)
        self.prior = prior
        self.gram: Floats = np.zeros((n, n))
        self.moment: Floats = np.zeros(n)
        self.square = 0.0
        self.snapshots: list[Snapshot] = []

    @property
    def n_rows(self) -> int:
        """Rows seen so far."""
        return sum(len(s.targets) for s in self.snapshots)

    def add(self, rows: Floats, targets: Floats, *, forgetting: float = 1.0) -> None:
        """Add one snapshot; everything before it is weighted by ``forgetting`` once more.

        Parameters
        ----------
        rows, targets
            (m, n) and (m,), already divided by their expected noise.
        """
        self.gram *= forgetting
        self.gram += rows.T @ rows
        self.moment *= forgetting
        self.moment += rows.T @ targets
        self.square = forgetting * self.square + float(targets @ targets)
        if forgetting != 1.0:
            self.snapshots = [
                Snapshot(s.rows, s.targets, forgetting * s.weight) for s in self.snapshots
            ]
        self.snapshots.append(Snapshot(rows, targets, 1.0))

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

    def _whitened(self, rows: Floats) -> Floats:
        """L^-1 x^T for each row x."""
        out: Floats = solve_triangular(
            self.factor, rows[:, self.active].T, lower=True, check_finite=False
        )
        return out

    def leverage(self, rows: Floats) -> Floats:
        """x^T (G + lambda Lambda)^-1 x of each row, (m,)."""
        white = self._whitened(rows)
        return np.einsum("nm,nm->m", white, white)

    def left_out(self, snapshot: Snapshot) -> Floats:
        """Residuals (m,) this snapshot would have had, had it not been learned."""
        residual = snapshot.targets - snapshot.rows[:, self.active] @ self.coefficients
        white = self._whitened(snapshot.rows)
        hat = snapshot.weight * (white.T @ white)
        out: Floats = np.linalg.solve(np.eye(len(residual)) - hat, residual)
        return out

    def evidence(self) -> float:
        """-2 log of the marginal likelihood, up to a constant; smaller is better."""
        equations = self.equations
        misfit = equations.square - float(equations.moment[self.active] @ self.coefficients)
        rows = equations.n_rows
        misfit = max(misfit, 1e-12 * max(equations.square, 1e-300))
        log_prior = float(np.log(self.strength * equations.prior[self.active]).sum())
        log_det = 2.0 * float(np.log(np.diag(self.factor)).sum())
        return rows * np.log(misfit / rows) + log_det - log_prior

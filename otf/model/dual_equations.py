r"""Ridge regression in the dual form, for fewer rows than columns.

Rows and targets are times the square roots of their weights, and
:math:`\tilde X = X \Lambda^{-1/2}`:

.. math::

   K = \tilde X \tilde X^T, \quad C = (K + \lambda)^{-1}, \quad \alpha = C y, \quad
   \theta = \Lambda^{-1} X^T \alpha, \quad
   A^{-1} = (\Lambda^{-1} - \Lambda^{-1} X^T C X \Lambda^{-1}) / \lambda

============================================================  =====================================
formula                                                       code
============================================================  =====================================
K, extended by the rows of each label                         :meth:`DualEquations.solve`
(K + lambda) alpha = y, Cholesky                              :meth:`DualEquations.solve`
e_B = C_BB^-1 alpha_B                                         :meth:`DualSolution.left_out`
``de_B / dln(lambda) = lambda C_BB^-1 (C (C_:B e_B - a))_B``  :meth:`DualSolution.left_out`
diag((lambda C_BB)^-1) - 1                                    :meth:`DualSolution.left_out_leverage`
m log s^2 + log|K + lambda| - m log(lambda),                  :meth:`DualSolution.evidence`
m s^2 = lambda y^T alpha
lambda alpha^T K alpha / s^2 - m + lambda tr C                :meth:`DualSolution.evidence_slope`
x^T A^-1 x                                                    :meth:`DualSolution.leverage`
t - Lambda^-1 X^T C (X t + z), t of the prior, z normal       :meth:`DualSolution.samples`
============================================================  =====================================

Sources: Bishop, Pattern Recognition and Machine Learning (2006), secs. 6.1 and 6.4 (dual form,
evidence); Seber and Lee, Linear Regression Analysis (2003), sec. 10.6 (leave-out residuals);
Hoffman and Ribak, Astrophys. J. 380, L5 (1991) (samples of the posterior from those of the prior).
The slopes are derivatives of these formulas.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from otf.arrays import Floats, Ints
from otf.model.equations import Block, Equations, Snapshot
from otf.model.triangular import back, cholesky, forward, inverse_factor, solve, solved


class DualEquations(Equations):
    """Equations of all rows added, which are all kept."""

    def __init__(self, prior: Floats, *, keep_blocks: int = 12) -> None:
        super().__init__(prior, keep_blocks=keep_blocks)
        self._kernels: dict[int, Floats] = {}  # K without weights, by the number of columns
        self._solved: dict[int, DualSolution] = {}

    @property
    def n_unknowns(self) -> int:
        """Number of all rows."""
        return sum(len(s.targets) for s in self.snapshots)

    def add(self, rows: Floats, targets: Floats, *, block: int, forgetting: float = 1.0) -> None:
        """See :meth:`Equations.add`."""
        self._solved.clear()
        super().add(rows, targets, block=block, forgetting=forgetting)

    def solve(self, leading: int, strength: float) -> "DualSolution | None":
        """See :meth:`Equations.solve`."""
        known = self._solved.get(leading)
        if known is not None and known.strength == strength:
            return known
        weights = np.concatenate([np.full(len(s.targets), s.weight) for s in self.snapshots])
        root = np.sqrt(weights)
        matrix = np.asfortranarray(self._kernel(leading) * root[:, None] * root)
        matrix[np.diag_indices(len(root))] += strength
        factor = cholesky(matrix)
        if factor is None:
            return None
        solution = DualSolution(self, leading, strength, root, factor)
        self._solved[leading] = solution
        return solution

    def _kernel(self, leading: int) -> Floats:
        """K without weights, (m, m)."""
        kernel = self._kernels.get(leading, np.empty((0, 0)))
        ends = np.cumsum([0, *(len(s.targets) for s in self.snapshots)])
        spans = [slice(start, end) for start, end in pairwise(ends)]
        if len(kernel) < ends[-1]:
            extended = np.empty((ends[-1], ends[-1]))
            extended[: len(kernel), : len(kernel)] = kernel
            # Label by label, so that a resumed run rounds alike.
            for i in range(int(np.searchsorted(ends, len(kernel))), len(spans)):
                relative = self.snapshots[i].rows[:, :leading] / self.prior[:leading]
                for other, span in zip(self.snapshots[: i + 1], spans, strict=False):
                    block = relative @ other.rows[:, :leading].T
                    extended[spans[i], span] = block
                    extended[span, spans[i]] = block.T
            kernel = self._kernels[leading] = extended
        return kernel


class DualSolution:
    """Solution in the dual form; see :class:`otf.model.equations.Solution`.

    Parameters
    ----------
    leading, strength
        Number of columns, and lambda.
    root
        (m,) square roots of the weights of the rows.
    factor
        (m, m) Cholesky factor of K + lambda.
    """

    def __init__(
        self,
        equations: DualEquations,
        leading: int,
        strength: float,
        root: Floats,
        factor: Floats,
    ) -> None:
        self.leading, self.strength = leading, strength
        self._prior = equations.prior[:leading]
        self._snapshots = tuple(equations.snapshots)
        self._ends = np.cumsum([0, *(len(s.targets) for s in self._snapshots)])
        self._root, self._factor = root, factor
        self._targets = root * np.concatenate([s.targets for s in self._snapshots])
        self._alpha = solve(factor, self._targets)

    @cached_property
    def coefficients(self) -> Floats:
        """(leading,) theta."""
        return self._pulled(self._alpha)

    def leverage(self, rows: Floats) -> Floats:
        """x^T A^-1 x of each row, (m,)."""
        relative = rows[:, : self.leading] / self._prior
        white = forward(self._factor, np.asfortranarray(self._along(relative.T)))
        prior = np.einsum("mn,mn->m", rows[:, : self.leading], relative)
        gained = np.einsum("nm,nm->m", white, white)
        return np.asarray(np.maximum(prior - gained, 0.0) / self.strength)

    def samples(self, count: int) -> Floats:
        """Random coefficients (count, leading) of covariance A^-1, the same at each call."""
        rng = np.random.default_rng(0)
        prior = rng.standard_normal((count, self.leading)).T
        prior /= np.sqrt(self.strength * self._prior)[:, None]
        noisy = self._along(prior) + rng.standard_normal((count, len(self._root))).T
        found = prior - self._pulled(solve(self._factor, np.asfortranarray(noisy)))
        return np.ascontiguousarray(found.T)

    def left_out(self, blocks: Sequence[Block]) -> tuple[Floats, Floats] | None:
        """See :meth:`otf.model.equations.Solution.left_out`."""
        residuals, slopes = list[Floats](), list[Floats]()
        for block in blocks:
            rows, white = self._white(block)
            inner = white.T @ white
            residual = solved(inner, self._alpha[rows])
            if residual is None:
                return None
            moved = solve(self._factor, back(self._factor, white @ residual) - self._alpha)
            slope = solved(inner, self.strength * moved[rows])
            if slope is None:
                return None
            residuals.append(residual)
            slopes.append(slope)
        return np.concatenate(residuals), np.concatenate(slopes)

    def left_out_leverage(self, snapshot: Snapshot) -> Floats:
        """Leverage of each row (m,) of a snapshot when it is left out of the fit."""
        _, white = self._white([snapshot])
        inverse = np.linalg.inv(self.strength * (white.T @ white))
        return np.asarray(np.maximum(np.diag(inverse) - 1.0, 0.0) / snapshot.weight)

    def evidence(self) -> float:
        """-2 log of the marginal likelihood, up to a constant; smaller is better."""
        m = len(self._root)
        log_det = 2.0 * float(np.log(np.diag(self._factor)).sum())
        return m * float(np.log(self._variance() / self.strength)) + log_det

    def evidence_slope(self) -> float:
        """Derivative of :meth:`evidence` by the logarithm of lambda."""
        # K alpha = y - lambda alpha
        stiffness = float(self._alpha @ (self._targets - self.strength * self._alpha))
        trace = float(np.square(inverse_factor(self._factor)).sum())
        determined = len(self._root) - self.strength * trace
        return self.strength * stiffness / self._variance() - determined

    def _variance(self) -> float:
        """Misfit per row, including the prior term."""
        square = float(self._targets @ self._targets)
        misfit = self.strength * float(self._targets @ self._alpha)
        return max(misfit, 1e-12 * max(square, 1e-300)) / len(self._root)

    def _white(self, block: Block) -> tuple[Ints, Floats]:
        """Numbers of the rows of a block, and their columns of L^-1."""
        rows = np.concatenate(
            [np.arange(self._ends[s.number], self._ends[s.number + 1]) for s in block]
        )
        chosen = np.zeros((len(self._root), len(rows)), order="F")
        chosen[rows, np.arange(len(rows))] = 1.0
        return rows, forward(self._factor, chosen)

    def _along(self, coefficients: Floats) -> Floats:
        """X v of coefficients (leading, ...): (m, ...)."""
        parts = [s.rows[:, : self.leading] @ coefficients for s in self._snapshots]
        return np.asarray((self._root * np.concatenate(parts).T).T)

    def _pulled(self, values: Floats) -> Floats:
        """Lambda^-1 X^T v of values of the rows (m, ...): (leading, ...)."""
        scaled = (self._root * values.T).T
        out = np.zeros((self.leading, *values.shape[1:]))
        for s, start, end in zip(self._snapshots, self._ends, self._ends[1:], strict=False):
            out += s.rows[:, : self.leading].T @ scaled[start:end]
        return np.asarray((out.T / self._prior).T)

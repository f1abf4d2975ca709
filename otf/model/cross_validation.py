r"""Errors of ridge regression on rows that it was not fitted to, for many prior strengths.

Rows of a block B left out of the fit, with :math:`\tilde X = X \Lambda^{-1/2}`:

.. math::

   A = \tilde X^T \tilde X + \lambda, \quad \theta = A^{-1} \tilde X^T y, \quad
   e_B = (1 - \tilde X_B A^{-1} \tilde X_B^T)^{-1} (y - \tilde X \theta)_B

and with fewer rows than columns, in the dual form, whatever the number of columns:

.. math::

   C = (\tilde X \tilde X^T + \lambda)^{-1}, \qquad e_B = C_{BB}^{-1} (C y)_B

Rows of a block predicted from the blocks before it, by one factorisation for all blocks:

.. math::

   L L^T = \tilde X \tilde X^T + \lambda, \qquad e_B = L_{BB}\, (L^{-1} y)_B

==================================  ===============================
formula                             code
==================================  ===============================
e_B of left-out blocks              :func:`left_out_errors`
e_B of blocks predicted in order    :func:`forward_errors`
==================================  ===============================

Sources: Seber and Lee, Linear Regression Analysis (2003), sec. 10.6 (leave-out residuals); Dawid,
J. R. Stat. Soc. A 147, 278 (1984) (prediction in order).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from otf.arrays import Floats

LARGEST = 30.0
"""Limit on a residual, in units of the expected noise: a wrong label does not decide alone."""

LEFT_OUT = 12
"""Blocks that are left out at most."""

STEPS = 5
"""Solutions by which later blocks are predicted, where each costs a factorisation."""


def left_out_errors(
    blocks: Sequence[tuple[Floats, Floats]], prior: Floats, strengths: Floats
) -> Floats:
    """Mean absolute residual of the rows of blocks that are left out of the fit, each in turn.

    Of many blocks, :data:`LEFT_OUT` are left out, spread evenly. Residuals are limited to
    :data:`LARGEST`.

    Parameters
    ----------
    blocks
        Rows (m, n) and targets (m,) of each block, in units of their expected noise.
    prior
        (n,) diagonal of Lambda, positive.
    strengths
        Values of lambda.

    Returns
    -------
    (strengths,) array
        Infinite where the equations cannot be solved in floating point.
    """
    x = np.concatenate([rows for rows, _ in blocks]) / np.sqrt(prior)
    y = np.concatenate([targets for _, targets in blocks])
    ends = np.cumsum([len(targets) for _, targets in blocks])
    chosen = np.unique(np.linspace(0, len(blocks) - 1, min(LEFT_OUT, len(blocks))).round())
    spans = [slice(ends[i] - len(blocks[i][1]), ends[i]) for i in chosen.astype(int)]
    dual = len(x) <= x.shape[1]
    gram = x @ x.T if dual else x.T @ x
    out = np.full(len(strengths), np.inf)
    for i, strength in enumerate(strengths):
        matrix = gram.copy()
        matrix[np.diag_indices(len(matrix))] += strength
        try:
            lower = cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
            left = _without_dual(lower, y, spans) if dual else _without(lower, x, y, spans)
        except np.linalg.LinAlgError:
            continue
        found = np.concatenate(left)
        out[i] = _size(found) / len(found)
    return out


def _without(lower: Floats, x: Floats, y: Floats, spans: Sequence[slice]) -> list[Floats]:
    """Residuals of each span of rows left out, by the factor of A."""
    theta = cho_solve((lower, True), x.T @ y, check_finite=False)
    out = list[Floats]()
    for span in spans:
        white = solve_triangular(lower, x[span].T, lower=True, check_finite=False)
        system = np.eye(span.stop - span.start) - white.T @ white
        out.append(np.asarray(np.linalg.solve(system, y[span] - x[span] @ theta)))
    return out


def _without_dual(lower: Floats, y: Floats, spans: Sequence[slice]) -> list[Floats]:
    """The same by the factor of the inverse of C."""
    weighted = cho_solve((lower, True), y, check_finite=False)
    out = list[Floats]()
    for span in spans:
        chosen = np.zeros((len(y), span.stop - span.start))
        chosen[span] = np.eye(span.stop - span.start)
        white = solve_triangular(lower, chosen, lower=True, check_finite=False)
        out.append(np.asarray(np.linalg.solve(white.T @ white, weighted[span])))
    return out


def forward_errors(
    blocks: Sequence[tuple[Floats, Floats]], prior: Floats, strengths: Floats
) -> Floats:
    """Mean absolute residual of the later half of the blocks, each predicted from those before it.

    Parameters
    ----------
    blocks, prior, strengths
        As in :func:`left_out_errors`, the blocks in the order of time; at least two.

    Returns
    -------
    (strengths,) array
        Infinite where the equations cannot be solved in floating point.
    """
    rows, columns = sum(len(y) for _, y in blocks), len(prior)
    first = max(1, len(blocks) // 2)
    one_by_one = min(STEPS, len(blocks) - first) * columns**3 < rows**3
    return (_in_steps if one_by_one else _at_once)(blocks, prior, strengths, first)


def _at_once(
    blocks: Sequence[tuple[Floats, Floats]], prior: Floats, strengths: Floats, first: int
) -> Floats:
    """In the dual form; its factor holds those of all leading blocks."""
    x = np.concatenate([rows for rows, _ in blocks]) / np.sqrt(prior)
    y = np.concatenate([targets for _, targets in blocks])
    gram = x @ x.T
    starts = np.cumsum([0, *(len(targets) for _, targets in blocks)])
    out = np.full(len(strengths), np.inf)
    for i, strength in enumerate(strengths):
        matrix = gram.copy()
        matrix[np.diag_indices(len(y))] += strength
        try:
            lower = cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            continue
        white = solve_triangular(lower, y, lower=True, check_finite=False)
        spans = [slice(a, b) for a, b in pairwise(starts[first:])]
        residuals = [np.tril(lower[s, s]) @ white[s] for s in spans]
        out[i] = _size(np.concatenate(residuals)) / (starts[-1] - starts[first])
    return out


def _in_steps(
    blocks: Sequence[tuple[Floats, Floats]], prior: Floats, strengths: Floats, first: int
) -> Floats:
    """By the normal equations of the blocks before each one, or before a few of the blocks."""
    n = len(prior)
    gram, moment = np.zeros((n, n)), np.zeros(n)
    totals, count = np.zeros(len(strengths)), 0
    thetas: list[Floats | None] = []
    solved_at = np.unique(np.linspace(first, len(blocks), STEPS + 1)[:-1].astype(int))
    for number, (rows, targets) in enumerate(blocks):
        if number in solved_at:
            thetas = [_ridge(gram, moment, strength * prior) for strength in strengths]
        if number >= first:
            count += len(targets)
            for i, theta in enumerate(thetas):
                totals[i] += np.inf if theta is None else _size(targets - rows @ theta)
        gram += rows.T @ rows
        moment += rows.T @ targets
    return np.asarray(totals / count)


def _ridge(gram: Floats, moment: Floats, prior: Floats) -> Floats | None:
    """Ridge solution, or None if it does not exist in floating point."""
    matrix = gram.copy()
    matrix[np.diag_indices(len(prior))] += prior
    try:
        factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return None
    return np.asarray(cho_solve(factor, moment, check_finite=False))


def _size(residuals: Floats) -> float:
    """Sum of the absolute residuals; those of outliers are limited."""
    return float(np.minimum(np.abs(residuals), LARGEST).sum())

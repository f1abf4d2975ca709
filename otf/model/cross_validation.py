r"""Errors of ridge regression on rows that it was not fitted to, for many prior strengths.

Rows of a block left out of the fit:

.. math::

   \tilde X = X \Lambda^{-1/2} = Z V^T, \qquad Z^T Z = \mathrm{diag}(w), \qquad
   H = Z\, \mathrm{diag}\!\left(\frac{1}{w + \lambda}\right) Z^T, \qquad
   e_B = (1 - H_{BB})^{-1} (y - H y)_B

With fewer rows than columns the decomposition is that of :math:`\tilde X \tilde X^T` (the dual
form), so the number of columns does not matter; otherwise that of :math:`\tilde X^T \tilde X`.

Rows of a block predicted from the blocks before it, by one factorisation for all blocks:

.. math::

   L L^T = \tilde X \tilde X^T + \lambda, \qquad e_B = L_{BB}\, (L^{-1} y)_B

==================================  ===============================
formula                             code
==================================  ===============================
Z, w                                :func:`_decomposed`
e_B of left-out blocks              :func:`left_out_errors`
e_B of blocks predicted in order    :func:`forward_errors`
==================================  ===============================

Sources: Seber and Lee, Linear Regression Analysis (2003), sec. 10.6 (leave-out residuals); Dawid,
J. R. Stat. Soc. A 147, 278 (1984) (prediction in order).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, eigh, solve_triangular

from otf.arrays import Floats

LARGEST = 30.0
"""Limit on a residual, in units of the expected noise: a wrong label does not decide alone."""

_ROUNDING = 1e-13  # eigenvalues below this share of the largest are noise


def left_out_errors(
    blocks: Sequence[tuple[Floats, Floats]], prior: Floats, strengths: Floats
) -> Floats:
    """Mean absolute residual of all rows, each block left out of the fit in turn.

    Residuals are limited to :data:`LARGEST`.

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
        Infinite where a block cannot be left out in floating point.
    """
    x = np.concatenate([rows for rows, _ in blocks]) / np.sqrt(prior)
    y = np.concatenate([targets for _, targets in blocks])
    z, w = _decomposed(x)
    projected = z.T @ y
    ends = np.cumsum([len(targets) for _, targets in blocks])
    spans = [slice(end - len(t), end) for end, (_, t) in zip(ends, blocks, strict=True)]
    out = np.full(len(strengths), np.inf)
    for i, strength in enumerate(strengths):
        weight = 1.0 / (w + strength)
        residual = y - z @ (weight * projected)
        total = 0.0
        for span in spans:
            mine = z[span]
            system = np.eye(len(mine)) - (mine * weight) @ mine.T
            try:
                total += _size(np.linalg.solve(system, residual[span]))
            except np.linalg.LinAlgError:
                total = np.inf
        out[i] = total / len(y) if np.isfinite(total) else np.inf
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
    one_by_one = (len(blocks) - first) * columns**3 < rows**3
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
    """By the normal equations of the blocks before each one."""
    n = len(prior)
    gram, moment = np.zeros((n, n)), np.zeros(n)
    totals, count = np.zeros(len(strengths)), 0
    for number, (rows, targets) in enumerate(blocks):
        if number >= first:
            count += len(targets)
            for i, strength in enumerate(strengths):
                matrix = gram.copy()
                matrix[np.diag_indices(n)] += strength * prior
                try:
                    factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
                except np.linalg.LinAlgError:
                    totals[i] = np.inf
                    continue
                theta = cho_solve(factor, moment, check_finite=False)
                totals[i] += _size(targets - rows @ theta)
        gram += rows.T @ rows
        moment += rows.T @ targets
    return np.asarray(totals / count)


def _size(residuals: Floats) -> float:
    """Sum of the absolute residuals; those of outliers are limited."""
    return float(np.minimum(np.abs(residuals), LARGEST).sum())


def _decomposed(x: Floats) -> tuple[Floats, Floats]:
    """Z (m, k) and w (k,), with k the smaller of the dimensions of x (m, n), or the rank."""
    m, n = x.shape
    if m <= n:
        w, u = eigh(x @ x.T, overwrite_a=True, check_finite=False)
        kept = w > _ROUNDING * w[-1]
        return u[:, kept] * np.sqrt(w[kept]), w[kept]
    w, v = eigh(x.T @ x, overwrite_a=True, check_finite=False)
    kept = w > _ROUNDING * w[-1]
    return x @ v[:, kept], w[kept]

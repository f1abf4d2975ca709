r"""Left-out errors of ridge regression, for many prior strengths at the cost of one decomposition.

.. math::

   \tilde X = X \Lambda^{-1/2} = Z V^T, \qquad Z^T Z = \mathrm{diag}(w), \qquad
   H = Z\, \mathrm{diag}\!\left(\frac{1}{w + \lambda}\right) Z^T, \qquad
   e_B = (1 - H_{BB})^{-1} (y - H y)_B

With fewer rows than columns the decomposition is that of :math:`\tilde X \tilde X^T` (the dual
form), so the number of columns does not matter; otherwise that of :math:`\tilde X^T \tilde X`.

==============================  =========================
formula                         code
==============================  =========================
Z, w                            :func:`_decomposed`
e_B for a set of lambda         :func:`left_out_errors`
==============================  =========================

Source: Seber and Lee, Linear Regression Analysis (2003), sec. 10.6 (leave-out residuals).
"""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import eigh

from otf.arrays import Floats

_ROUNDING = 1e-13  # eigenvalues below this share of the largest are noise


def left_out_errors(
    blocks: Sequence[tuple[Floats, Floats]], prior: Floats, strengths: Floats
) -> Floats:
    """Mean absolute residual of all rows, each block left out of the fit in turn.

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
                total += float(np.abs(np.linalg.solve(system, residual[span])).sum())
            except np.linalg.LinAlgError:
                total = np.inf
        out[i] = total / len(y) if np.isfinite(total) else np.inf
    return out


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

r"""Errors of ridge regression on rows that it was not fitted to, by order and prior strength.

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

Columns of a lower order lead those of a higher one, so that their products are computed once.

Sources: Seber and Lee, Linear Regression Analysis (2003), sec. 10.6 (leave-out residuals); Dawid,
J. R. Stat. Soc. A 147, 278 (1984) (prediction in order).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from otf.arrays import Floats, Ints
from otf.model.triangular import cholesky, forward, solve

LARGEST = 30.0
"""Limit on a residual, in units of the expected noise: a wrong label does not decide alone."""

LEFT_OUT = 12
"""Blocks that are left out at most."""

STEPS = 5
"""Solutions by which later blocks are predicted, where each costs a factorisation."""

ErrorAt = Callable[[float], float]
"""Mean absolute residual at a prior strength; infinite where it cannot be computed."""


def left_out_errors(
    blocks: Sequence[tuple[Floats, Floats]], prior: Floats, leading: Sequence[int]
) -> list[ErrorAt]:
    """Errors of the rows of blocks that are left out of the fit, each in turn.

    Of many blocks, :data:`LEFT_OUT` are left out, spread evenly. Residuals are limited to
    :data:`LARGEST`.

    Parameters
    ----------
    blocks
        Rows (m, n) and targets (m,) of each block, in units of their expected noise.
    prior
        (n,) diagonal of Lambda, positive.
    leading
        Number of leading columns of each order, increasing.
    """
    stack = _stacked(blocks, prior)
    chosen = np.unique(np.linspace(0, len(blocks) - 1, min(LEFT_OUT, len(blocks))).round())
    spans = [slice(*stack.starts[i : i + 2]) for i in chosen.astype(int)]
    rows = len(stack.x)
    dual = _dual_grams(stack.x, [n for n in leading if n >= rows])
    few = stack.x[:, : max((n for n in leading if n < rows), default=0)]
    whole = few.T @ few
    grams = [next(dual) if n >= rows else whole[:n, :n] for n in leading]
    return [
        partial(_left_out_error, gram, stack.x[:, :n], stack.y, spans)
        for n, gram in zip(leading, grams, strict=True)
    ]


def forward_errors(
    blocks: Sequence[tuple[Floats, Floats]], prior: Floats, leading: Sequence[int]
) -> list[ErrorAt]:
    """Errors of the later half of the blocks, each predicted from those before it.

    Parameters
    ----------
    blocks, prior, leading
        As in :func:`left_out_errors`, the blocks in the order of time; at least two.
    """
    stack = _stacked(blocks, prior)
    first = max(1, len(blocks) // 2)
    steps = np.unique(np.linspace(first, len(blocks), STEPS + 1)[:-1].astype(int))
    few = [n for n in leading if min(STEPS, len(blocks) - first) * n**3 < len(stack.x) ** 3]
    dual = _dual_grams(stack.x, leading[len(few) :])
    cuts = [*stack.starts[steps], len(stack.x)]
    sums = list(_running_sums(stack, cuts, max(few))) if few else []
    spans = [slice(*pair) for pair in pairwise(stack.starts[first:])]
    return [
        *(partial(_error_in_steps, sums, stack.x[:, :n], stack.y, cuts) for n in few),
        *(partial(_error_in_order, gram, stack.y, spans) for gram in dual),
    ]


class _Stack(NamedTuple):
    """Rows of all blocks, divided by the root of the prior; targets; first row of each block."""

    x: Floats
    y: Floats
    starts: Ints


def _stacked(blocks: Sequence[tuple[Floats, Floats]], prior: Floats) -> _Stack:
    x = np.concatenate([rows for rows, _ in blocks])
    x /= np.sqrt(prior)
    targets = [targets for _, targets in blocks]
    return _Stack(x, np.concatenate(targets), np.cumsum([0, *map(len, targets)]))


def _dual_grams(x: Floats, leading: Sequence[int]) -> Iterator[Floats]:
    """X X^T of the leading columns."""
    gram, done = np.zeros((len(x), len(x))), 0
    for n in leading:
        further = x[:, done:n]
        gram, done = gram + further @ further.T, n
        yield gram


def _running_sums(
    stack: _Stack, cuts: Sequence[int], columns: int
) -> Iterator[tuple[Floats, Floats]]:
    """X^T X and X^T y of the rows before each cut but the last."""
    gram, moment = np.zeros((columns, columns)), np.zeros(columns)
    for begin, end in pairwise([0, *cuts[:-1]]):
        x = stack.x[begin:end, :columns]
        gram, moment = gram + x.T @ x, moment + x.T @ stack.y[begin:end]
        yield gram, moment


def _factor(gram: Floats, strength: float) -> Floats | None:
    """Lower Cholesky factor of G + lambda, or None if there is none in floating point."""
    matrix = gram.T.copy(order="F")  # it is symmetric, and factored in place in this order
    matrix[np.diag_indices(len(matrix))] += strength
    return cholesky(matrix)


def _left_out_error(
    gram: Floats, x: Floats, y: Floats, spans: Sequence[slice], strength: float
) -> float:
    lower = _factor(gram, strength)
    if lower is None:
        return np.inf
    without = _without_dual if len(x) <= x.shape[1] else _without
    try:
        return _mean_size(without(lower, x, y, spans))
    except np.linalg.LinAlgError:
        return np.inf


def _without(lower: Floats, x: Floats, y: Floats, spans: Sequence[slice]) -> list[Floats]:
    """Residuals of each span of rows left out, by the factor of A."""
    theta = solve(lower, x.T @ y)
    out = list[Floats]()
    for span in spans:
        white = forward(lower, x[span].T)
        system = np.eye(span.stop - span.start) - white.T @ white
        out.append(np.asarray(np.linalg.solve(system, y[span] - x[span] @ theta)))
    return out


def _without_dual(lower: Floats, _x: Floats, y: Floats, spans: Sequence[slice]) -> list[Floats]:
    """The same by the factor of the inverse of C."""
    weighted = solve(lower, y)
    out = list[Floats]()
    for span in spans:
        chosen = np.zeros((len(y), span.stop - span.start))
        chosen[span] = np.eye(span.stop - span.start)
        white = forward(lower, chosen)
        out.append(np.asarray(np.linalg.solve(white.T @ white, weighted[span])))
    return out


def _error_in_order(gram: Floats, y: Floats, spans: Sequence[slice], strength: float) -> float:
    """In the dual form; its factor holds those of all leading blocks."""
    lower = _factor(gram, strength)
    if lower is None:
        return np.inf
    white = forward(lower, y)
    return _mean_size([np.tril(lower[s, s]) @ white[s] for s in spans])


def _error_in_steps(
    sums: Sequence[tuple[Floats, Floats]],
    x: Floats,
    y: Floats,
    cuts: Sequence[int],
    strength: float,
) -> float:
    """By the normal equations of the rows before a few of the blocks."""
    n, residuals = x.shape[1], list[Floats]()
    for (gram, moment), begin, end in zip(sums, cuts[:-1], cuts[1:], strict=True):
        lower = _factor(gram[:n, :n], strength)
        if lower is None:
            return np.inf
        theta = solve(lower, moment[:n])
        residuals.append(y[begin:end] - x[begin:end] @ theta)
    return _mean_size(residuals)


def _mean_size(residuals: Sequence[Floats]) -> float:
    """Mean of the absolute residuals; those of outliers, and what is not finite, are limited."""
    return float(np.fmin(np.abs(np.concatenate(residuals)), LARGEST).mean())

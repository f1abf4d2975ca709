r"""Ridge problems whose prior wants fine features smaller than coarse ones.

==================================================  ==================================
formula                                             code
==================================================  ==================================
(X^T X + s L) theta = X^T y,                        :func:`ridge_solution`
L = diag(X^T X) 5^degree
s = argmin sum_B |(1 - H_BB)^-1 (y - X theta)_B|_1  :meth:`RidgeProblem.choose`
==================================================  ==================================

with the labels B left out one after the other; sources in :mod:`otf.model.normal_equations`.
Nothing is forgotten: predicting the next labels of a trajectory of C2H6, forgetting gained nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from otf.arrays import Floats, Ints
from otf.model.normal_equations import NormalEquations, Rows, Solution

_FLOOR = 1e-12  # of a feature that never varied, relative to the largest
_STRENGTHS = tuple(10.0**power for power in (-7, -9, -11, -13, -15))
_USUAL = 1e-13  # as long as there are too few labels to choose by, or too many rows to keep
_FINER = 5.0  # times more for each degree: with few labels fine features would fit anything
_LEFT_OUT = 12  # labels at most
_MOST_ROWS = 600
_FEWEST_LABELS = 3


def ridge_solution(
    equations: NormalEquations, degrees: Ints, *, strength: float, finer: float
) -> Floats:
    """Coefficients, those of features that were never seen but zero being zero.

    Parameters
    ----------
    degrees
        (features,) how fine each of them is.
    strength
        Of the prior, relative to the diagonal of the equations; made larger where it is too little
        for floating point.
    finer
        How many times stronger the prior is for each degree.

    Raises
    ------
    ValueError
        If there are numbers in the equations that are none.
    """
    if not np.diag(equations.gram).any():
        return np.zeros_like(equations.moment)
    for tried in np.geomspace(strength, 1.0, 9):
        solution = _solved(equations, degrees, float(tried), finer)
        if solution is not None:
            return solution.coefficients
    raise ValueError("what was learned are not numbers")


def _solved(
    equations: NormalEquations, degrees: Ints, strength: float, finer: float
) -> Solution | None:
    diagonal = np.diag(equations.gram)
    equations.prior = np.maximum(diagonal, _FLOOR * float(diagonal.max())) * finer**degrees
    solution = equations.solve(len(diagonal), strength)
    equations.forget_solutions()  # the factor is not needed any more
    return solution


@dataclass(eq=False)
class RidgeProblem:
    """Least squares of numbers of one kind, of several matrices that share their features.

    How strong the prior is, is chosen for each matrix by leaving out labels.

    Attributes
    ----------
    degrees
        (features,) how fine each of them is.
    n_matrices
        The right-hand sides are those of one matrix after the other, equally many of each.
    """

    degrees: Ints
    n_matrices: int
    _equations: NormalEquations | None = None
    _strengths: Sequence[float] = field(init=False)
    _coefficients: Floats | None = None

    def __post_init__(self) -> None:
        self._strengths = [_USUAL] * self.n_matrices

    def add(self, rows: Floats, targets: Floats, label: int) -> None:
        """Take in rows (m, features) with their targets (m, right-hand sides)."""
        if not len(self.degrees):
            self._coefficients = np.zeros((0, targets.shape[1]))
            return
        self._coefficients = None
        if self._equations is None:
            self._equations = NormalEquations(
                np.ones(len(self.degrees)), keep_blocks=0, outputs=targets.shape[1]
            )
        self._equations.keep_blocks = min(_LEFT_OUT, _MOST_ROWS // max(len(rows), 1))
        self._equations.add(rows, targets, block=label)

    def choose(self) -> None:
        """Choose the strengths of the prior anew, where there are enough labels to leave out."""
        if self._equations is None or not np.diag(self._equations.gram).any():
            return
        blocks = self._equations.blocks()
        if len(blocks) < _FEWEST_LABELS:
            return
        errors = np.array([self._left_out(blocks, strength) for strength in _STRENGTHS])
        if np.isfinite(errors).any(axis=0).all():
            self._strengths = [_STRENGTHS[best] for best in errors.argmin(axis=0)]
        self._coefficients = None

    def _left_out(self, blocks: Sequence[Rows], strength: float) -> list[float]:
        """Sum of the errors at labels left out, for each matrix."""
        assert self._equations is not None
        solution = _solved(self._equations, self.degrees, strength, _FINER)
        residuals = None if solution is None else solution.left_out_residuals(blocks)
        if residuals is None or not np.isfinite(residuals).all():
            return [np.inf] * self.n_matrices
        return [float(np.abs(r).sum()) for r in np.split(residuals, self.n_matrices, axis=1)]

    def predict(self, rows: Floats) -> Floats:
        """Right-hand sides (m, …); zero where the description has no features of their kind.

        Raises
        ------
        ValueError
            If there are numbers in what was learned that are none.
        """
        if self._coefficients is None:
            assert self._equations is not None
            solutions = {
                strength: np.split(
                    ridge_solution(self._equations, self.degrees, strength=strength, finer=_FINER),
                    self.n_matrices,
                    axis=1,
                )
                for strength in set(self._strengths)
            }
            own = [solutions[strength][k] for k, strength in enumerate(self._strengths)]
            self._coefficients = np.concatenate(own, axis=1)
        return np.asarray(rows @ self._coefficients)

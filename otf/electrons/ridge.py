r"""Ridge regression with a prior that grows with the degree of the features.

=======================================================  =================================
formula                                                  code
=======================================================  =================================
(X^T X + s L) theta = X^T y,                             :func:`ridge_solution`
L = diag(X^T X) finer^degree
``s = argmin sum_B |(1 - H_BB)^-1 (y - X theta)_B|_1``   :meth:`RidgeProblem.choose`
theta + c (s / A)^(1/2) z T^(1/2), z normal              :meth:`RidgeProblem.samples`
T = theta^T L theta / (n - tr s L / A)                   :class:`_Posterior`
c^2 = sum (y - X theta)^2 / tr T sum s x^T x / A         :meth:`RidgeProblem.calibration`
=======================================================  =================================

with each label B left out in turn, A = X^T X + s L, n features, and c over unseen rows; sources in
:mod:`otf.model.normal_equations`. T is the covariance of the right-hand sides, as elements of a
block err together: MacKay, Neural Comput. 4, 415 (1992), sec. 4, and for several right-hand sides
Bonilla, Chai and Williams, Adv. Neural Inf. Process. Syst. 20 (2008). There is no forgetting: it
did not improve predictions of the next labels of a trajectory of C2H6.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from otf.arrays import Floats, Ints
from otf.model.equations import Block
from otf.model.normal_equations import NormalEquations, NormalSolution
from otf.model.triangular import back

_FLOOR = 1e-12  # prior of a feature that never varied, relative to the largest
_STRENGTHS = tuple(10.0**power for power in (-7, -9, -11, -13, -15))
_USUAL = 1e-13  # if there are too few labels for cross-validation, or too many rows to keep
_LEFT_OUT = 12  # most labels in the cross-validation
_MOST_ROWS = 600
_FEWEST_LABELS = 3
_WEAKER = 5.0  # factor of the prior per degree, for its effect on predictions
_DRAWN = 32  # samples for the effective number of parameters


def ridge_solution(
    equations: NormalEquations, degrees: Ints, *, strength: float, finer: float
) -> Floats:
    """Ridge coefficients; zero for features that are zero in all rows.

    Parameters
    ----------
    degrees
        (features,) degree of each feature.
    strength
        Strength of the prior, relative to the diagonal of the equations; increased if it is too
        small in floating point.
    finer
        Factor of the prior for each degree.

    Raises
    ------
    ValueError
        If the equations contain NaN or infinity.
    """
    if not np.diag(equations.gram).any():
        return np.zeros_like(equations.moment)
    return _solution(equations, degrees, strength, finer).coefficients


def _solution(
    equations: NormalEquations, degrees: Ints, strength: float, finer: float
) -> NormalSolution:
    """Solution with the least strength from the given one on that floating point allows."""
    for tried in np.geomspace(strength, 1.0, 9):
        solution = _solved(equations, degrees, float(tried), finer)
        if solution is not None:
            return solution
    raise ValueError("the training data contain NaN or infinity")


def _solved(
    equations: NormalEquations, degrees: Ints, strength: float, finer: float
) -> NormalSolution | None:
    diagonal = np.diag(equations.gram)
    equations.prior = np.maximum(diagonal, _FLOOR * float(diagonal.max())) * finer**degrees
    solution = equations.solve(len(diagonal), strength)
    equations.forget_solutions()  # the factor is no longer needed
    return solution


@dataclass(eq=False)
class RidgeProblem:
    """Ridge problem of several matrices that share their features.

    The strength of the prior is chosen for each matrix by cross-validation over labels.

    Attributes
    ----------
    degrees
        (features,) degree of each feature.
    n_matrices
        Number of matrices; each has equally many of the right-hand sides, one after the other.
    finer
        Factor of the prior for each degree.
    """

    degrees: Ints
    n_matrices: int
    finer: float = 5.0
    _equations: NormalEquations | None = None
    _strengths: Sequence[float] = field(init=False)
    _coefficients: Floats | None = None

    def __post_init__(self) -> None:
        self._strengths = [_USUAL] * self.n_matrices

    def add(self, rows: Floats, targets: Floats, label: int) -> None:
        """Add rows (m, features) with their targets (m, right-hand sides)."""
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
        """Choose the strengths of the prior by cross-validation if there are enough labels."""
        if self._equations is None or not np.diag(self._equations.gram).any():
            return
        blocks = self._equations.blocks()
        if len(blocks) < _FEWEST_LABELS:
            return
        errors = np.array([self._left_out(blocks, strength) for strength in _STRENGTHS])
        if np.isfinite(errors).any(axis=0).all():
            self._strengths = [_STRENGTHS[best] for best in errors.argmin(axis=0)]
        self._coefficients = None

    def _left_out(self, blocks: Sequence[Block], strength: float) -> list[float]:
        """Sum of the left-out errors for each matrix."""
        assert self._equations is not None
        solution = _solved(self._equations, self.degrees, strength, self.finer)
        residuals = None if solution is None else solution.left_out_residuals(blocks)
        if residuals is None or not np.isfinite(residuals).all():
            return [np.inf] * self.n_matrices
        return [float(np.abs(r).sum()) for r in np.split(residuals, self.n_matrices, axis=1)]

    @property
    def coefficients(self) -> Floats:
        """(features, right-hand sides); none if there are no features.

        Raises
        ------
        ValueError
            If the training data contain NaN or infinity.
        """
        if self._coefficients is None:
            self._coefficients = self._coefficients_by(self.finer)
        return self._coefficients

    def _coefficients_by(self, finer: float) -> Floats:
        """Coefficients with this factor of the prior for each degree."""
        if self._equations is None:
            return self.coefficients  # there are no features
        solutions = {
            strength: np.split(
                ridge_solution(self._equations, self.degrees, strength=strength, finer=finer),
                self.n_matrices,
                axis=1,
            )
            for strength in set(self._strengths)
        }
        own = [solutions[strength][k] for k, strength in enumerate(self._strengths)]
        return np.concatenate(own, axis=1)

    def predict(self, rows: Floats) -> Floats:
        """Predict right-hand sides (m, …); zero if there are no features."""
        return np.asarray(rows @ self.coefficients)

    def calibration(self, rows: Floats, targets: Floats) -> Floats:
        """Ratio (matrices,) of true to expected errors of unseen rows; one if both are zero."""
        ratios = np.ones(self.n_matrices)
        errors = np.split(targets - self.predict(rows), self.n_matrices, axis=1)
        for k, posterior in enumerate(self._posteriors()):
            expected = posterior.variances(rows).sum()
            if expected > 0.0:
                ratios[k] = np.sqrt((errors[k] ** 2).sum() / expected)
        return ratios

    def samples(self, count: int, ratios: Floats, rng: np.random.Generator) -> list[Floats]:
        """Random coefficients from the posterior distribution.

        Data that determine few of the coefficients do not show whether the prior is right, so the
        change of the coefficients by a weaker one is added, with alternating signs.

        Parameters
        ----------
        ratios
            (matrices,) factors of the expected errors; those below one have no effect.
        """
        change = self._coefficients_by(_WEAKER) - self.coefficients
        out = [self.coefficients + (-1.0) ** k * change for k in range(count)]
        width = self.coefficients.shape[1] // self.n_matrices
        for k, posterior in enumerate(self._posteriors()):
            for sample in out:
                columns = sample[:, k * width : (k + 1) * width]
                columns += max(float(ratios[k]), 1.0) * posterior.draw(rng)
        return out

    def _posteriors(self) -> "list[_Posterior]":
        """The distribution of the coefficients of each matrix; none without features."""
        if self._equations is None or not np.diag(self._equations.gram).any():
            return []
        solutions = {
            s: _solution(self._equations, self.degrees, s, self.finer) for s in set(self._strengths)
        }
        width = self.coefficients.shape[1] // self.n_matrices
        return [
            _Posterior.of(solutions[s], slice(k * width, (k + 1) * width))
            for k, s in enumerate(self._strengths)
        ]


@dataclass(frozen=True, eq=False)
class _Posterior:
    """Gaussian distribution of the coefficients of one matrix about their mean.

    Attributes
    ----------
    solution
        Mean and factor of the equations.
    covariance
        (right-hand sides, right-hand sides) of the prior for L = 1.
    """

    solution: NormalSolution
    covariance: Floats

    @classmethod
    def of(cls, solution: NormalSolution, columns: slice) -> "_Posterior":
        """The distribution of these right-hand sides of a solution."""
        prior = solution.equations.prior
        theta = solution.coefficients[:, columns]
        drawn = solution.samples(_DRAWN)
        free = solution.strength * float((drawn**2 @ prior).mean())
        determined = max(len(prior) - free, 1.0)
        return cls(solution, (theta.T * prior) @ theta / determined)

    def variances(self, rows: Floats) -> Floats:
        """Expected squares of the errors (m, right-hand sides) of rows."""
        leverages = self.solution.strength * self.solution.leverage(rows)
        return np.asarray(leverages[:, None] * np.diag(self.covariance))

    def draw(self, rng: np.random.Generator) -> Floats:
        """Random deviation (features, right-hand sides) from the mean."""
        values, vectors = np.linalg.eigh(self.covariance)
        normal = rng.standard_normal((self.solution.leading, len(values)))
        drawn = back(self.solution.factor, np.asfortranarray(normal))
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        return np.asarray(np.sqrt(self.solution.strength) * drawn @ root.T)

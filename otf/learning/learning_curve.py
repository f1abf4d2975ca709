"""How the error of a model falls with the number of labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from otf.learning import regularisation
from otf.learning.growing_regression import GrowingRegression
from otf.learning.regression import Example, Regression
from otf.learning.regularisation import Regularisation

_PARTS = (0.25, 0.5, 1.0)  # of the labels
_STRETCHES = 5  # of the trajectory, each left out in turn


@dataclass(frozen=True)
class CurvePoint:
    """Error of a model that learned so many labels.

    Attributes
    ----------
    error
        Mean absolute error of a force component where it learned nothing, eV/Angstrom.
    """

    labels: int
    error: float


def learning_curve(known: GrowingRegression, choice: Regularisation) -> list[CurvePoint]:
    """Left-out errors of a model with a quarter, half and all of the labels, evenly spread.

    Size and ranges are those of the model; order and prior are chosen anew. Whole stretches of the
    trajectory are left out: single labels would be interpolated from their neighbours. A part with
    too few labels that are apart in time is missing.

    Parameters
    ----------
    known
        The model and its labels.
    choice
        Order and prior strength that the search starts from.
    """
    points, examples = list[CurvePoint](), known.examples
    settings = replace(known.current.settings, keep_blocks=len(examples))
    for part in _PARTS:
        count = max(1, round(part * len(examples)))
        chosen = np.linspace(0, len(examples) - 1, count).round().astype(int)
        some = [examples[i] for i in chosen]
        if len({e.block for e in some}) < _STRETCHES:
            continue
        of_part = Regression(known.model, settings)
        for example in some:
            of_part.add(example, known.reference_energy)
        error = _left_out_error(of_part, some, choice)
        if error is not None:
            points.append(CurvePoint(count, error))
    return points


def error_with_twice(curve: Sequence[CurvePoint]) -> float | None:
    """Error to expect with twice the labels, eV/Angstrom, if it falls on as a power of them.

    None with fewer than two points.

    >>> round(error_with_twice([CurvePoint(10, 0.04), CurvePoint(20, 0.02)]), 6)
    0.01
    >>> error_with_twice([CurvePoint(10, 0.02), CurvePoint(20, 0.03)])
    0.03
    """
    if len(curve) < 2:
        return None
    slope, _ = np.polyfit(
        np.log([p.labels for p in curve]), np.log([max(p.error, 1e-12) for p in curve]), 1
    )
    return curve[-1].error * float(2.0 ** min(0.0, slope))


def _left_out_error(
    regression: Regression, examples: Sequence[Example], choice: Regularisation
) -> float | None:
    """Mean absolute left-out error of the forces, eV/Angstrom; None if it cannot be solved."""
    equations, first = regression.equations, 0 if regression.model.coupling == "self" else 1
    choice = regularisation.converge(equations, regression.leading, choice, thorough=True)
    solution = equations.solve(regression.leading[choice.order], choice.strength)
    if solution is None:
        return None
    errors = []
    for blocks in np.array_split(np.unique([s.block for s in equations.snapshots]), _STRETCHES):
        stretch = [s for s in equations.snapshots if s.block in blocks]
        left_out = solution.left_out([stretch])
        if left_out is None:
            return None
        start = 0
        for snapshot in stretch:
            forces = slice(start + first, start + first + 3 * len(examples[snapshot.number].atoms))
            errors.append(np.abs(left_out[0][forces]).mean() / np.sqrt(snapshot.weight))
            start += len(snapshot.targets)
    return regression.settings.force_noise * float(np.mean(errors))

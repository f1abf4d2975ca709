"""Ridge problems whose prior wants fine features smaller than coarse ones."""

import numpy as np

from otf.arrays import Floats, Ints
from otf.model.normal_equations import NormalEquations

_FLOOR = 1e-12  # of a feature that never varied, relative to the largest


def graded_solution(
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
    diagonal = np.diag(equations.gram)
    largest = float(diagonal.max())
    if largest == 0.0:
        return np.zeros_like(equations.moment)
    equations.prior = np.maximum(diagonal, _FLOOR * largest) * finer**degrees
    for tried in np.geomspace(strength, 1.0, 9):
        solution = equations.solve(len(diagonal), float(tried))
        if solution is not None:
            equations.forget_solutions()  # the factor is not needed any more
            return solution.coefficients
    raise ValueError("what was learned are not numbers")

"""Misfit and noise of the labels: the part of the error that more labels do not reduce."""

import math
from collections.abc import Sequence

import numpy as np

from otf.arrays import Floats
from otf.learning.regression import Example, Regression

_LATEST = 6  # labels
_FREE = 0.3  # freedom of their residuals below which these say nothing of the noise


def floor_of(
    regression: Regression, examples: Sequence[Example], coefficients: Floats, samples: Floats
) -> float:
    """Mean absolute residual of the forces of the latest labels, eV/Angstrom.

    Corrected for the freedom of the fit: a residual of leverage h has 1 - h times the variance of
    the noise. 0 while the fit has too much freedom.

    Parameters
    ----------
    examples
        All labels, in the order they were learned.
    coefficients, samples
        The solution, and random coefficients of its posterior (samples, leading).
    """
    residuals, freedom = [], []
    first = 0 if regression.model.coupling == "self" else 1  # the energy row
    for snapshot in regression.equations.snapshots[-_LATEST:]:
        forces = slice(first, first + 3 * len(examples[snapshot.number].atoms))
        rows = snapshot.rows[forces, : len(coefficients)]
        residuals.append(np.abs(snapshot.targets[forces] - rows @ coefficients).mean())
        freedom.append(1.0 - np.mean((rows @ samples.T) ** 2))
    free = float(np.mean(freedom))
    if free < _FREE:
        return 0.0
    return regression.settings.force_noise * float(np.mean(residuals)) / math.sqrt(free)

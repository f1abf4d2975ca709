"""Error scale and leverages of labels that are left out of the fit."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from otf.arrays import Floats
from otf.learning.regression import Example, Regression
from otf.learning.regularisation import Regularisation
from otf.learning.uncertainty import EPSILON, ErrorScale

_LATEST = 3  # labels by whose leverage the error scale is transferred to another prior


def left_out_scale(
    regression: Regression, examples: Sequence[Example], choice: Regularisation
) -> ErrorScale | None:
    """Error scale and calibration from left-out residuals; None without a solution.

    Parameters
    ----------
    examples
        All labels, in the order they were learned.
    """
    solution = regression.equations.solve(regression.leading[choice.order], choice.strength)
    if solution is None:
        return None
    model = regression.model
    snapshots = [s for block in regression.equations.blocks() for s in block]
    first = 0 if model.coupling == "self" else 1  # the energy row
    measured = []
    for snapshot in sorted(snapshots, key=lambda s: s.number):
        example = examples[snapshot.number]
        rows = slice(first, first + 3 * len(example.atoms))
        left_out = solution.left_out([[snapshot]])
        if left_out is not None:
            channels = model.descriptor.channels(example.atoms)
            residual = left_out[0][rows].reshape(-1, 3) / np.sqrt(snapshot.weight)
            error = regression.settings.force_noise * residual
            leverage = solution.left_out_leverage(snapshot)[rows].reshape(-1, 3)
            measured.append((channels, error, leverage))
    scale = ErrorScale.unknown(len(model.descriptor.species))
    for _ in range(2):  # the calibration needs the scale
        scale = replace(scale, ratios=np.zeros_like(scale.ratios))
        for channels, error, leverage in measured:
            scale = scale.updated(channels, error, leverage, audited=True)
    return scale


def latest_leverage(regression: Regression, choice: Regularisation) -> Floats:
    """Epsilon + leverage of the rows of the latest labels, each label left out.

    Where they are learned, all models with little prior have the same leverage.
    """
    solution = regression.equations.solve(regression.leading[choice.order], choice.strength)
    latest = regression.equations.snapshots[-_LATEST:]
    if solution is None:
        return np.ones(sum(len(s.targets) for s in latest))
    return np.concatenate([EPSILON + solution.left_out_leverage(s) for s in latest])

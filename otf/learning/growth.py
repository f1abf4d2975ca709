"""Growth of the model: when larger sizes are tried, and which one is chosen.

A model whose training error is about as large as its left-out error is limited by its size, not by
the number of labels.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from otf.learning import regularisation
from otf.learning.regression import Regression
from otf.learning.regularisation import Regularisation
from otf.model.blueprint import Size

_LOG = logging.getLogger("otf.learning")

_GOOD_ENOUGH = 0.1  # left-out error, in units of the expected noise, below which it does not grow
_SATURATED = 0.5  # training error relative to the left-out error above which it may grow


@dataclass(frozen=True, eq=False)
class Candidate:
    """A size with the equations of all labels and its best prior."""

    size: Size
    regression: Regression
    choice: Regularisation


def may_be_too_small(regression: Regression, choice: Regularisation) -> bool:
    """Whether the training error is about as large as the left-out error."""
    score = choice.score
    if not score > _GOOD_ENOUGH:  # also while it is NaN
        return False
    return regression.misfit(regression.leading[choice.order], choice.strength) > _SATURATED * score


def best_of(
    sizes: Iterable[tuple[Size, Regression]], current: Regularisation, *, n_labels: int
) -> Candidate:
    """The size with the smallest left-out error; a larger one must be better by a margin.

    Parameters
    ----------
    sizes
        Present size first; evaluated one at a time.
    current
        Starting point of the search for each prior.
    n_labels
        For the log.
    """
    best: Candidate | None = None
    for size, regression in sizes:
        choice = regularisation.converge(
            regression.equations, regression.leading, current, thorough=True
        )
        _LOG.info(
            "%d labels, %s: left-out error %.4g in units of the expected noise",
            n_labels,
            size,
            choice.score,
        )
        if best is None or choice.score < regularisation.GAIN * best.choice.score:
            best = Candidate(size, regression, choice)
    assert best is not None  # the present size is always there
    return best

"""The size of the model: when larger ones are tried, and which one is taken.

A model that misses the labels it has learned about as much as those left out is limited by its
size, not by the number of labels.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from otf.learning import regularisation
from otf.learning.regression import Regression
from otf.learning.regularisation import Regularisation
from otf.model.blueprint import Size

_LOG = logging.getLogger("otf.learning")

_GOOD_ENOUGH = 0.1  # left-out error, in units of the expected noise, below which nothing grows
_SATURATED = 0.5  # the model may be too small when it misses its own labels by this much of that


@dataclass(frozen=True, eq=False)
class Candidate:
    """A size with the equations of all labels and the prior that suits it best."""

    size: Size
    regression: Regression
    choice: Regularisation


def may_be_too_small(regression: Regression, choice: Regularisation) -> bool:
    """Whether the model misses what it has learned about as much as what it has not."""
    score = choice.score
    if not score > _GOOD_ENOUGH:  # also where it is not known yet
        return False
    return regression.misfit(regression.leading[choice.order], choice.strength) > _SATURATED * score


def best_of(
    sizes: Iterable[tuple[Size, Regression]], current: Regularisation, *, n_labels: int
) -> Candidate:
    """The size with the least left-out error; a later one must be better by a margin.

    Parameters
    ----------
    sizes
        The present size first; made one at a time.
    current
        Where the search for each prior begins.
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

"""The labels of a run as equations for a model that grows.

A model whose training error is about as large as its left-out error is limited by its size, not by
the number of labels: the next larger sizes are then tried, and the best one is kept.
"""

import itertools
import logging
from collections.abc import Iterable

from ase import Atoms

from otf.learning import regularisation
from otf.learning.regression import Example, Regression, Taught, TrainerSettings
from otf.learning.regularisation import Regularisation
from otf.learning.time_blocks import TimeBlocks
from otf.model.blueprint import Blueprint, Size
from otf.model.tensor_energy import TensorEnergy

_LOG = logging.getLogger("otf.learning")

_GOOD_ENOUGH = 0.1  # left-out error, in units of the expected noise, below which it does not grow
_SATURATED = 0.5  # training error relative to the left-out error above which it may grow


class GrowingRegression:
    """All labels, and their equations for the present size of the model.

    Parameters
    ----------
    blueprint
        Builds the energy model in any of its sizes.
    settings
        Weights, forgetting, orders.

    Attributes
    ----------
    examples
        The labelled structures, in the order they were learned.
    reference_energy
        Subtracted for each atom, eV: that of the first label.
    size, current
        The present size, and the equations for it.
    tried_at
        Number of labels when larger sizes were last tried.
    """

    def __init__(self, blueprint: Blueprint, settings: TrainerSettings) -> None:
        self._blueprint = blueprint
        self._settings = settings
        self._blocks = TimeBlocks()
        self.examples: list[Example] = []
        self.reference_energy = 0.0
        self.tried_at = 0
        self.size = blueprint.choices.smallest()
        self.current = Regression(blueprint.build(self.size), settings)

    @property
    def model(self) -> TensorEnergy:
        """The energy model of the present size."""
        return self.current.model

    @property
    def has_all_environments(self) -> bool:
        """Whether the present model has blocks for all environments of the labels."""
        return self._blueprint.groups(self.size) == self.model.sharing.groups

    def remember(self, taught: Taught) -> None:
        """Store a label with its time block, without adding it to the equations."""
        atoms, labels = taught.atoms, taught.labels
        if not self.examples:
            self.reference_energy = labels.energy / len(atoms)
        block = self._blocks.of(taught.time_fs, taught.trajectory)
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        self.examples.append(Example(bare, labels, block))
        self._blueprint.see(bare)

    def add_latest(self) -> None:
        """Add the latest label to the present equations."""
        self.current.add(self.examples[-1], self.reference_energy)

    def rebuild(self, size: Size) -> None:
        """Make the equations of all labels anew, for a model of this size."""
        self.size, self.current = size, self._equations(size)

    def may_be_too_small(self, choice: Regularisation) -> bool:
        """Whether the training error is about as large as the left-out error."""
        score = choice.score
        if not score > _GOOD_ENOUGH:  # also while it is NaN
            return False
        leading = self.current.leading[choice.order]
        return self.current.misfit(leading, choice.strength) > _SATURATED * score

    def grow(self, choice: Regularisation) -> Regularisation | None:
        """Try the next larger sizes, and take the one with the smallest left-out error.

        A larger size must be better by a margin.

        Parameters
        ----------
        choice
            Order and prior in use, where the search for each size starts.

        Returns
        -------
        Order and prior for the size that was taken, which may be the present one; None if there is
        no larger size.
        """
        larger = self._blueprint.larger(self.size)
        if not larger:
            return None
        sizes: Iterable[tuple[Size, Regression]] = itertools.chain(
            [(self.size, self.current)], ((size, self._equations(size)) for size in larger)
        )
        best: tuple[Size, Regression, Regularisation] | None = None
        for size, regression in sizes:  # one at a time: each holds all equations
            found = regularisation.converge(
                regression.equations, regression.leading, choice, thorough=True
            )
            _LOG.info(
                "%d labels, %s: left-out error %.4g in units of the expected noise",
                len(self.examples),
                size,
                found.score,
            )
            if best is None or found.score < regularisation.GAIN * best[2].score:
                best = size, regression, found
        assert best is not None  # the present size is always there
        if best[0] != self.size:
            _LOG.info("the model grows: %s", best[0])
        self.size, self.current, found = best
        return found

    def _equations(self, size: Size) -> Regression:
        """The equations of all labels for a model of this size."""
        regression = Regression(self._blueprint.build(size), self._settings)
        for example in self.examples:
            regression.add(example, self.reference_energy)
        return regression

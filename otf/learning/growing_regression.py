"""The labels of a run as equations for a model that grows.

Ranges and resolution of the descriptor, and the size of the model, are chosen by the error at
labels that are left out of the fit: no choice is right for molecules, liquids and glasses alike.
The first labels of a run are so close in time that any of them follows from its neighbours; so each
is predicted from those before it. Later, time blocks of labels are left out.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from otf.learning import regularisation
from otf.learning.baseline import NO_BASELINE, Baseline, BaselineGain
from otf.learning.regression import Example, Regression, Taught, TrainerSettings
from otf.learning.regularisation import Regularisation
from otf.learning.time_blocks import TimeBlocks
from otf.model.blueprint import RESOLUTION, Blueprint, Size
from otf.model.cross_validation import forward_errors, left_out_errors
from otf.model.normal_equations import Rows
from otf.model.tensor_energy import TensorEnergy
from otf.units import MEV

_LOG = logging.getLogger("otf.learning")

LABELS_AHEAD = 2.0
"""Labels at the next search, relative to those at the present one, at most."""

_GOOD_ENOUGH = 0.1  # error, in units of the expected noise, below which nothing is searched
_FEWEST_BLOCKS = 3  # time blocks of labels from which on a model may have any number of columns
_MANY_BLOCKS = 12  # the same for leaving out blocks instead of predicting labels in their order
_FEWEST_LABELS = 8  # to leave out, whatever the cost
_TRIED = slice(8, 25, 4)  # prior strengths of a search on the grid: 1e-4, 1e-2, … 1e4
_TRIED_EARLY = slice(12, 25, 4)  # the same by labels that any model interpolates: 1e-2, … 1e4
_MOST_WORK = 1.5e7  # rows times the smaller of rows and columns, in a search
_MOST_THREADS = 2  # each needs memory for the rows of its candidate


class GrowingRegression:
    """All labels, and their equations for the present size of the model.

    Parameters
    ----------
    blueprint
        Builds the energy model in any of its sizes.
    settings
        Weights, forgetting, orders.
    baseline
        Subtracted from the labels.

    Attributes
    ----------
    examples
        The labelled structures, in the order they were learned, without the baseline.
    reference_energy
        Subtracted for each atom, eV: that of the first label whose energy is learned.
    baseline, gain
        What is subtracted from the labels, and what it was worth at the latest search; None before.
    size, current
        The present size, and the equations for it.
    tried_at
        Number of labels when larger sizes were last tried.
    saturated
        Whether none of them was better then.
    """

    def __init__(self, blueprint: Blueprint, settings: TrainerSettings, baseline: Baseline) -> None:
        self._blueprint = blueprint
        self._settings = settings
        self.baseline = baseline
        self.gain: BaselineGain | None = None
        self._blocks = TimeBlocks()
        self.examples: list[Example] = []
        self.reference_energy = 0.0
        self.tried_at = 0
        self.saturated = False
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

    @property
    def _has_room(self) -> bool:
        """Whether the present model, with its environments, is within the limits."""
        blueprint = self._blueprint
        within = blueprint.n_columns(self.size) <= blueprint.most_columns
        return within and self.has_all_environments

    def remember(self, taught: Taught) -> None:
        """Store a label with its time block, without adding it to the equations."""
        atoms = taught.atoms
        labels = self.baseline.subtracted_from(
            taught.labels, atoms, needs_stress=self._settings.stress_noise is not None
        )
        block = self._blocks.of(taught.time_fs, taught.trajectory)
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        self.examples.append(Example(bare, labels, taught.labels, block, taught.time_fs))
        self.reference_energy = _reference(self.examples)
        self._blueprint.see(bare)

    def add_latest(self) -> None:
        """Add the latest label to the present equations."""
        self.current.add(self.examples[-1], self.reference_energy)

    def rebuild(self, size: Size) -> None:
        """Make the equations of all labels anew, for a model of this size."""
        self.size, self.current = size, self._equations(size)

    def make_room(self, ahead: float = LABELS_AHEAD) -> None:
        """Allow models that have room until so many times the labels of the latest search."""
        rows = 1 + 3 * len(self.examples[0].atoms)
        self._blueprint.make_room(int(ahead * self.tried_at * rows))

    def search(self, choice: Regularisation, *, ahead: float = LABELS_AHEAD) -> Regularisation:
        """Try other resolutions and larger sizes; take the one with the smallest left-out error.

        One quantity is changed at a time; a candidate must be better by a margin. Labels a few
        steps apart are interpolated by any model with enough coefficients, so until the labels
        spread over several time blocks a candidate may not have more than there are rows.

        Parameters
        ----------
        choice
            Order and prior in use.
        ahead
            See :meth:`make_room`.

        Returns
        -------
        Order and prior for the size that was taken, which may be the present one.
        """
        examples = self._judged_by()
        spread = self._blocks.count >= _FEWEST_BLOCKS
        self.tried_at = len(self.examples)
        self.make_room(ahead)
        size = self.size
        if not self._has_room:  # it grows anew
            size = self._blueprint.smallest(size.resolution)
        best = self._logged(self._found(size, choice, examples))
        if self.baseline.terms and self._drops_baseline(best, choice, examples):
            return self.search(choice, ahead=ahead)
        if not best.score > _GOOD_ENOUGH and best.size == self.size:
            return choice
        most = self._most_columns(spread)
        # Ranges that suit a model too small for its labels do not suit a larger one.
        best = self._largest_that_pays(best, choice, examples, most)
        for name in RESOLUTION:
            others = self._blueprint.resolved_otherwise(best.size, name)
            best = self._best_of(best, self._within(others, most), choice, examples)
        best = self._largest_that_pays(best, choice, examples, most)
        self.saturated = spread and best.size == self.size
        if best.size != self.size or not self.has_all_environments:
            _LOG.info("the model changes: %s", best.size)
            self.rebuild(best.size)
        return best.choice

    def _drops_baseline(
        self, best: "_Found", choice: Regularisation, examples: Sequence[Example]
    ) -> bool:
        """Measure what the baseline is worth; drop it if it is optional and worth nothing."""
        reference = _reference(_whole(self.examples))
        without = self._logged(
            self._found(best.size, choice, _whole(examples), reference=reference)
        )
        # Labels a few steps apart are interpolated by any model, so that little can be gained.
        spread = self._blocks.count >= _FEWEST_BLOCKS
        worthless = best.score > (regularisation.GAIN if spread else 1.0) * without.score
        self.gain = BaselineGain(
            str(self.baseline),
            best.score * self._settings.force_noise,
            without.score * self._settings.force_noise,
            dropped=worthless and self.baseline.optional,
        )
        _LOG.info("%s", self.gain)
        if self.gain.dropped:
            self.drop_baseline()
            self.rebuild(self.size)
        return self.gain.dropped

    def drop_baseline(self) -> None:
        """Learn all of the labels from now on; :meth:`rebuild` is needed afterwards."""
        self.baseline = NO_BASELINE
        self.examples = _whole(self.examples)
        self.reference_energy = _reference(self.examples)

    def _most_columns(self, spread: bool) -> float:
        """Largest number of coefficients of a candidate."""
        if spread:
            return math.inf
        rows = len(self.examples) * 3 * len(self.examples[0].atoms)
        return max(self._blueprint.n_columns(self.size), rows)

    def _within(self, sizes: Sequence[Size], most: float) -> list[Size]:
        return [s for s in sizes if self._blueprint.n_columns(s) <= most]

    def _largest_that_pays(
        self, best: "_Found", choice: Regularisation, examples: Sequence[Example], most: float
    ) -> "_Found":
        """The best size on the way to larger ones, as long as each is better by a margin."""
        before = None
        while best is not before:
            before = best
            larger = self._within(self._blueprint.larger(best.size), most)
            best = self._best_of(best, larger, choice, examples)
        return best

    def _best_of(
        self,
        best: "_Found",
        sizes: Sequence[Size],
        choice: Regularisation,
        examples: Sequence[Example],
    ) -> "_Found":
        """The best so far, or the best of these sizes if it is better by a margin."""
        found = [self._logged(f) for f in self._all_found(sizes, choice, examples)]
        better = min(found, key=lambda f: f.score, default=best)
        return better if better.score < regularisation.GAIN * best.score else best

    def _all_found(
        self, sizes: Sequence[Size], choice: Regularisation, examples: Sequence[Example]
    ) -> Iterator["_Found"]:
        """Left-out errors of sizes, several at once: they share nothing but the labels."""
        threads = min(len(sizes), _MOST_THREADS, self._blueprint.workers.threads)
        if threads < 2 or self._blueprint.ranks is not None:  # ranks call MPI in a fixed order
            yield from (self._found(size, choice, examples) for size in sizes)
            return
        with ThreadPoolExecutor(threads, thread_name_prefix="otf-search") as pool:
            yield from pool.map(lambda size: self._found(size, choice, examples), sizes)

    def _found(
        self,
        size: Size,
        choice: Regularisation,
        examples: Sequence[Example],
        *,
        reference: float | None = None,
    ) -> "_Found":
        """Left-out error of a size, at the best order and prior strength.

        Parameters
        ----------
        reference
            Energy subtracted per atom, eV, if it is not that of the labels without the baseline.
        """
        reference = self.reference_energy if reference is None else reference
        regression = Regression(self._blueprint.build(size), self._settings)
        rows = [regression.equation(example, reference) for example in examples]
        errors_of, tried = forward_errors, _TRIED_EARLY
        if self._blocks.count >= _MANY_BLOCKS:
            errors_of, tried = left_out_errors, _TRIED
            rows = _joined(rows, [e.block for e in examples])
        errors = errors_of(rows, regression.equations.prior, list(regression.leading.values()))
        del rows  # the errors hold a copy
        position, scores = {}, {}
        for order, error_at in zip(regression.leading, errors, strict=True):
            tries = [error_at(strength) for strength in regularisation.GRID[tried]]
            position[order] = tried.start + tried.step * int(np.argmin(tries))
            scores[order] = min(tries)
        order = min(scores, key=lambda o: scores[o])
        if scores[order] > regularisation.GAIN * scores[choice.order]:
            order = choice.order
        kept = Regularisation(order, position, len(self.examples), choice.score)
        return _Found(size, kept, scores[order])

    def _logged(self, found: "_Found") -> "_Found":
        """The same, after a line in the log."""
        _LOG.info(
            "%d labels, %s: left-out error %.1f meV/A (order %d, lambda %.0e)",
            len(self.examples),
            found.size,
            found.score * self._settings.force_noise / MEV,
            found.choice.order,
            found.choice.strength,
        )
        return found

    def _judged_by(self) -> list[Example]:
        """Labels that a search uses: as many as it can afford, evenly spread.

        Labels of the same time block are nearly the same label: two of them are enough.
        """
        examples = self.examples
        if self._blocks.count >= _MANY_BLOCKS:
            last = {e.block: i for i, e in enumerate(examples)}
            examples = [e for i, e in enumerate(examples) if i > last[e.block] - 2]
        columns = self._blueprint.n_columns(self.size)
        rows = 1 + 3 * len(examples[0].atoms)
        count = len(examples)
        while count > _FEWEST_LABELS and count * rows * min(count * rows, columns) > _MOST_WORK:
            count -= 1
        chosen = np.unique(np.linspace(0, len(examples) - 1, count).round().astype(int))
        # In the order of time: an audit lies between labels that were learned before it.
        return sorted((examples[i] for i in chosen), key=lambda e: (e.block, e.time_fs))

    def _equations(self, size: Size) -> Regression:
        """The equations of all labels for a model of this size."""
        regression = Regression(self._blueprint.build(size), self._settings)
        for example in self.examples:
            regression.add(example, self.reference_energy)
        return regression


def _whole(examples: Sequence[Example]) -> list[Example]:
    """The labels with the baseline in them, as they were computed."""
    return [replace(example, labels=example.whole) for example in examples]


def _reference(examples: Sequence[Example]) -> float:
    """Energy per atom, eV, of the first label whose energy is learned; 0 without one."""
    known = next((e for e in examples if not e.labels.level), None)
    return 0.0 if known is None else known.labels.energy / len(known.atoms)


def _joined(rows: Sequence[Rows], blocks: Sequence[int]) -> list[Rows]:
    """The rows of all labels of each block."""
    out = []
    for block in dict.fromkeys(blocks):
        mine = [pair for pair, number in zip(rows, blocks, strict=True) if number == block]
        out.append((np.concatenate([x for x, _ in mine]), np.concatenate([y for _, y in mine])))
    return out


@dataclass(frozen=True)
class _Found:
    """A size with its best order and prior, and its left-out error in units of the noise."""

    size: Size
    choice: Regularisation
    score: float

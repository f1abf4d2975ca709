"""Training of the model on the fly: error at each label, regression, growth."""

import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.engines.labels import Labels
from otf.errors import RunError
from otf.learning import growth, regularisation
from otf.learning.force_model import ForceModel, Posterior
from otf.learning.left_out import left_out_scale
from otf.learning.regression import Example, Regression, Taught, TrainerSettings
from otf.learning.regularisation import Regularisation
from otf.learning.time_blocks import TimeBlocks
from otf.learning.uncertainty import EPSILON, ErrorScale
from otf.model import residual
from otf.model.blueprint import Blueprint, Size
from otf.model.one_thread import in_one_thread
from otf.model.residual import Forecast
from otf.model.tensor_energy import Prediction, TensorEnergy

_LOG = logging.getLogger("otf.learning")

_UNSETTLED = 30  # number of labels up to which the search is iterated to convergence
_SAME_FORCES = 1e-5  # eV/Angstrom; rounding on another machine stays far below
_OTHER_LABELS = (
    "the labels do not give the model of the checkpoint; put the labels file of this run back in "
    "its place"
)
_REMEMBERED = 16  # labels whose residuals are kept for the forecast
_RECENT = 6  # the same for errors of earlier models, which soon become irrelevant


@dataclass(frozen=True, eq=False)
class TrainerState:
    """State of a trainer besides the labels themselves.

    Attributes
    ----------
    tried_at
        Number of labels when larger models were last tried.
    residuals
        (labels, N, 3) errors of the forces at the latest labels before they were learned.
    replicas
        Replica of each label if replicas share the trainer, else empty.
    """

    n_labels: int
    reference_energy: float
    size: Size
    tried_at: int
    choice: Regularisation
    scale: ErrorScale
    residuals: Floats
    theta: Floats
    replicas: tuple[int, ...] = ()


class Trainer:
    """Learns labels of one system and predicts its energies and forces.

    Parameters
    ----------
    blueprint
        Builds the energy model in any of its sizes.
    settings
        Weights, forgetting, orders.
    """

    def __init__(self, blueprint: Blueprint, settings: TrainerSettings) -> None:
        self.settings = settings
        self._blueprint = blueprint
        self._size = blueprint.choices.smallest()
        self._regression = Regression(blueprint.build(self._size), settings)
        self._examples: list[Example] = []
        self._reference_energy = 0.0
        self._blocks = TimeBlocks()
        self._tried_at = 0
        self._choice = regularisation.start(settings.orders)
        self._scale = ErrorScale.unknown(len(self.model.descriptor.species))
        self._residuals: list[Floats] = []
        self._set_model(np.zeros(self.model.n_columns), None)

    @property
    def model(self) -> TensorEnergy:
        """The energy model of the present size."""
        return self._regression.model

    @property
    def n_labels(self) -> int:
        """Number of labels learned so far."""
        return len(self._examples)

    @property
    def choice(self) -> Regularisation:
        """Polynomial order and prior strength in use."""
        return self._choice

    @property
    def size(self) -> Size:
        """Size of the model."""
        return self._size

    @property
    def force_model(self) -> ForceModel:
        """The present model."""
        return self._force_model

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces and stress by the present model."""
        return self._force_model.predict(atoms)

    @in_one_thread
    def predicted_error(self, atoms: Atoms) -> Floats:
        """Expected error of each force component (N, 3), eV/Angstrom.

        Infinite before two labels have been learned.
        """
        return self._force_model.predicted_error(atoms)

    @in_one_thread
    def worst_error(self, atoms: Atoms) -> float:
        """Largest expected error of an atom, root mean square over its components, eV/Angstrom."""
        return self._force_model.worst_error(atoms)

    def residual_forecast(self, n_labels: int) -> Forecast | None:
        """Forecast of the force residuals of the present model, from the first ``n_labels`` labels.

        None with fewer than two.
        """
        recent = self._examples[:n_labels][-_REMEMBERED:]
        if len(recent) < 2:
            return None
        left = [e.labels.forces - self.predict(e.atoms).forces for e in recent]
        return residual.fit(np.array(left))

    def error_forecast(self) -> Forecast | None:
        """Forecast of the force errors, from those at labels before learning; None if too few."""
        recent = self._residuals[-_RECENT:]
        return residual.fit(np.array(recent)) if len(recent) > 1 else None

    @in_one_thread
    def learn(
        self, atoms: Atoms, labels: Labels, *, time_fs: float, audited: bool, trajectory: int = 0
    ) -> None:
        """Learn one label: update the error scale, add its rows, choose hyperparameters, solve.

        Parameters
        ----------
        time_fs
            Time of the label; labels close in time are left out together in cross-validation.
        audited
            Whether it is untriggered: its time did not depend on the model.
        trajectory
            Number of the trajectory; labels of different ones are never close in time.
        """
        if self.n_labels:
            error = labels.forces - self.predict(atoms).forces
            self._residuals = [*self._residuals, error][-_RECENT:]
            self._scale = self._scale.updated(
                self.model.descriptor.channels(atoms),
                error,
                self._force_model.leverage(atoms),
                audited=audited,
            )
        self.add(atoms, labels, time_fs=time_fs, trajectory=trajectory)
        if regularisation.is_due(self._choice, self.n_labels):
            self._choose()
        self._solve()

    @in_one_thread
    def add(self, atoms: Atoms, labels: Labels, *, time_fs: float, trajectory: int = 0) -> None:
        """Add one label without choosing and solving; see :meth:`learn`."""
        example = self._remember(Taught(atoms, labels, time_fs, trajectory))
        if self._blueprint.groups(self._size) == self.model.sharing.groups:
            self._regression.add(example, self._reference_energy)
        else:  # new environments
            before = _latest_leverage(self._regression, self._choice)
            self._regression = self._regress(self._size)
            after = _latest_leverage(self._regression, self._choice)
            self._scale = self._scale.rescaled(float(np.sqrt(before / after)))

    def _remember(self, taught: Taught) -> Example:
        """Store a label with its time block."""
        atoms, labels = taught.atoms, taught.labels
        if self.n_labels == 0:
            self._reference_energy = labels.energy / len(atoms)
        block = self._blocks.of(taught.time_fs, taught.trajectory)
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        self._examples.append(Example(bare, labels, block))
        self._blueprint.see(bare)
        return self._examples[-1]

    @in_one_thread
    def settle(self) -> None:
        """Choose size, order and prior for the labels added, and solve.

        Raises
        ------
        RunError
            If no label was added.
        """
        if not self.n_labels:
            raise RunError("there is nothing to learn from")
        regression = self._regression
        self._choice = regularisation.converge(
            regression.equations, regression.leading, self._choice, thorough=True
        )
        while growth.may_be_too_small(self._regression, self._choice) and self._grow():
            pass
        scale = left_out_scale(self._regression, self._examples, self._choice)
        self._scale = scale or self._scale
        self._solve()

    def capture(self) -> TrainerState:
        """State that, with the labels, restores this trainer exactly."""
        return TrainerState(
            self.n_labels,
            self._reference_energy,
            self._size,
            self._tried_at,
            self._choice,
            self._scale,
            np.array(self._residuals),
            self._force_model.theta,
        )

    @in_one_thread
    def restore(self, state: TrainerState, labelled: Iterable[Taught]) -> None:
        """Restore a captured state from the labels learned up to it.

        Raises
        ------
        RunError
            If the labels are not those the state was made with.
        """
        self._size = state.size
        for taught in labelled:
            self._remember(taught)
        self._regression = self._regress(state.size)
        if self.n_labels != state.n_labels:
            raise RunError(
                f"the checkpoint was made with {state.n_labels} labels, but {self.n_labels} are "
                "there; put the labels file of this run back in its place"
            )
        self._choice, self._scale = state.choice, state.scale
        self._tried_at, self._residuals = state.tried_at, list(state.residuals)
        if not self._examples:
            return
        latest = self._examples[-1].atoms
        self._solve()
        if len(state.theta) != self.model.n_columns:
            raise RunError(_OTHER_LABELS)
        posterior, rebuilt = self._force_model.posterior, self.predict(latest)
        # The stored coefficients are exact, even if another machine rounds differently.
        self._set_model(state.theta, posterior)
        stored = self.predict(latest)
        same = self._reference_energy == state.reference_energy
        if not same or np.abs(rebuilt.forces - stored.forces).max() > _SAME_FORCES:
            raise RunError(_OTHER_LABELS)

    def _regress(self, size: Size) -> Regression:
        """The equations of all labels so far for a model of another size."""
        regression = Regression(self._blueprint.build(size), self.settings)
        for example in self._examples:
            regression.add(example, self._reference_energy)
        return regression

    def _choose(self) -> None:
        """Update order and prior, and from time to time the size."""
        before = _latest_leverage(self._regression, self._choice)
        find = regularisation.search if self.n_labels > _UNSETTLED else regularisation.converge
        self._choice = find(self._regression.equations, self._regression.leading, self._choice)
        if self.n_labels >= 2 * self._tried_at and growth.may_be_too_small(
            self._regression, self._choice
        ):
            self._tried_at = self.n_labels
            self._grow()
        # The leverages have changed, but not the errors, except for the gain by growth.
        after = _latest_leverage(self._regression, self._choice)
        self._scale = self._scale.rescaled(float(np.sqrt(before / after)))

    def _grow(self) -> bool:
        """Try the next larger sizes; return whether one has a smaller left-out error."""
        larger = self._blueprint.larger(self._size)
        if not larger:
            return False
        sizes = itertools.chain(
            [(self._size, self._regression)], ((size, self._regress(size)) for size in larger)
        )
        best = growth.best_of(sizes, self._choice, n_labels=self.n_labels)
        grown = best.size != self._size
        if grown:
            _LOG.info("the model grows: %s", best.size)
            self._scale = self._scale.rescaled(best.choice.score / self._choice.score)
        self._size, self._regression, self._choice = best.size, best.regression, best.choice
        return grown

    def _solve(self) -> None:
        leading = self._regression.leading[self._choice.order]
        solution = None
        for strength in regularisation.GRID[self._choice.position[self._choice.order] :]:
            solution = self._regression.equations.solve(leading, float(strength))
            if solution is not None:
                break
        if solution is None:
            raise RunError(
                "the normal equations cannot be solved at any prior strength: the structures are "
                "all alike, or a label is not physical; look at the labels file"
            )
        theta = np.zeros(self.model.n_columns)
        theta[:leading] = solution.coefficients
        self._set_model(theta, Posterior(solution.factor, self.settings.force_noise))

    def _set_model(self, theta: Floats, posterior: Posterior | None) -> None:
        order = self._choice.order
        self._force_model = ForceModel(
            self.model,
            theta,
            order,
            self.model.tensors(theta, order=order),
            self._reference_energy,
            self._scale,
            posterior,
        )


def _latest_leverage(regression: Regression, choice: Regularisation) -> float:
    """Mean of epsilon + leverage over the rows of the latest label."""
    solution = regression.equations.solve(regression.leading[choice.order], choice.strength)
    if solution is None:
        return 1.0
    return float(EPSILON + solution.leverage(regression.equations.snapshots[-1].rows).mean())

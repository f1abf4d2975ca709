"""Training of the model on the fly: error at each label, regression, growth."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.engines.labels import Labels
from otf.errors import RunError
from otf.learning import regularisation
from otf.learning.baseline import NO_BASELINE, Baseline, BaselineGain
from otf.learning.floor import floor_of
from otf.learning.force_model import SAMPLES, ForceModel, Posterior
from otf.learning.growing_regression import LABELS_AHEAD, GrowingRegression
from otf.learning.learning_curve import CurvePoint, learning_curve
from otf.learning.left_out import latest_leverage, left_out_scale
from otf.learning.regression import Taught, TrainerSettings
from otf.learning.regularisation import Regularisation
from otf.learning.uncertainty import ErrorScale
from otf.model import residual
from otf.model.blueprint import Blueprint, Size
from otf.model.one_thread import in_one_thread
from otf.model.residual import Forecast
from otf.model.tensor_energy import Prediction, TensorEnergy

_FIRST_SEARCH = 3  # number of labels from which on sizes are searched
_UNSETTLED = 30  # number of labels up to which the search of the prior is converged,
_MANY = 2500  # if no more unknowns make each of its steps expensive
_SAME_FORCES = 1e-5  # eV/Angstrom; rounding on another machine stays far below
_OTHER_LABELS = (
    "the labels do not give the model of the checkpoint; put the labels file of this run back in "
    "its place"
)
_SOONER = 1.5  # factor of the labels between searches up to so many labels, and where the model
_EARLY = 12  # is saturated; else LABELS_AHEAD
_SATURATED = 0.7
_REMEMBERED = 16  # labels whose residuals are kept for the forecast
_RECENT = 6  # the same for errors of earlier models, which soon become irrelevant


@dataclass(frozen=True, eq=False)
class TrainerState:
    """State of a trainer besides the labels themselves.

    Attributes
    ----------
    tried_at, saturated
        Number of labels when larger models were last tried, and whether none was better.
    residuals
        (labels, N, 3) errors of the forces at the latest labels before they were learned.
    replicas
        Replica of each label if replicas share the trainer, else empty.
    gain
        What the baseline was worth when sizes were last tried; None before, or without one.
    """

    n_labels: int
    reference_energy: float
    size: Size
    tried_at: int
    saturated: bool
    choice: Regularisation
    scale: ErrorScale
    residuals: Floats
    theta: Floats
    replicas: tuple[int, ...] = ()
    gain: BaselineGain | None = None


class Trainer:
    """Learns labels of one system and predicts its energies and forces.

    Parameters
    ----------
    blueprint
        Builds the energy model in any of its sizes.
    settings
        Weights, forgetting, orders.
    earlier
        Labels of earlier runs, learned before those of this one.
    baseline
        The model learns what is left of the labels without it.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        settings: TrainerSettings,
        earlier: Sequence[Taught] = (),
        *,
        baseline: Baseline = NO_BASELINE,
    ) -> None:
        self.settings = settings
        self.earlier = earlier
        self._labels = GrowingRegression(blueprint, settings, baseline)
        self._choice = regularisation.start(settings.orders)
        self._scale = ErrorScale.unknown(len(self.model.descriptor.species))
        self._residuals: list[Floats] = []
        self._floor = 0.0
        self._set_model(np.zeros(self.model.n_columns), None)

    @property
    def model(self) -> TensorEnergy:
        """The energy model of the present size."""
        return self._labels.model

    @property
    def n_labels(self) -> int:
        """Number of labels learned so far, without those of earlier runs."""
        return max(0, self._n_known - len(self.earlier))

    @property
    def has_learned(self) -> bool:
        """Whether the model has learned anything."""
        return self._n_known > 0

    @property
    def _n_known(self) -> int:
        return len(self._labels.examples)

    @property
    def choice(self) -> Regularisation:
        """Polynomial order and prior strength in use."""
        return self._choice

    @property
    def size(self) -> Size:
        """Size of the model."""
        return self._labels.size

    @property
    def floor(self) -> float:
        """Misfit and noise of the labels, eV/Angstrom: what more labels do not reduce.

        The mean absolute residual of the forces of the latest labels, corrected for the freedom of
        the fit; 0 while it has too much of it.
        """
        return self._floor

    @property
    def usual_error(self) -> float:
        """Largest error of a force at a label that is not learned yet, eV/Angstrom; usually."""
        return float(np.median([np.abs(r).max() for r in self._residuals] or [0.0]))

    @property
    def saturated(self) -> bool:
        """Whether no larger model was better than the present one when they were last tried."""
        return self._labels.saturated

    @property
    def force_model(self) -> ForceModel:
        """The present model."""
        return self._force_model

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces and stress by the present model."""
        return self._force_model.predict(atoms)

    @in_one_thread
    def predicted_error(self, atoms: Atoms) -> Floats:
        """Expected error of each force component (N, 3), eV/Angstrom; infinite at first."""
        return self._force_model.predicted_error(atoms)

    @in_one_thread
    def energy_error(self, atoms: Atoms) -> float:
        """Expected error of the energy, eV; infinite before two labels have been learned."""
        return self._force_model.energy_error(atoms)

    @in_one_thread
    def worst_error(self, atoms: Atoms, *, enough: float = 0.0, turn: int = 0) -> float:
        """Largest expected error of an atom, root mean square over its components, eV/Angstrom."""
        return self._force_model.worst_error(atoms, enough=enough, turn=turn)

    def residual_forecast(self, n_labels: int) -> Forecast | None:
        """Forecast of the force residuals of the present model, from the first ``n_labels`` labels.

        None with fewer than two.
        """
        own = self._labels.examples[len(self.earlier) :]
        recent = own[:n_labels][-_REMEMBERED:]
        if len(recent) < 2:
            return None
        left = [e.labels.forces - self.force_model.learned(e.atoms).forces for e in recent]
        return residual.fit(np.array(left))

    def error_forecast(self) -> Forecast | None:
        """Forecast of the force errors, from those at labels before learning; None if too few."""
        recent = self._residuals[-_RECENT:]
        return residual.fit(np.array(recent)) if len(recent) > 1 else None

    def begin(self) -> None:
        """Learn the labels of earlier runs, if there are any; instead of :meth:`restore`."""
        if self.earlier:
            for taught in self.earlier:
                self._labels.remember(taught)
            self._labels.rebuild(self._labels.size)
            self.settle(ahead=LABELS_AHEAD)

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
        if self.has_learned:
            error = labels.forces - self.predict(atoms).forces
            self._residuals = [*self._residuals, error][-_RECENT:]
            self._scale = self._scale.updated(
                self.model.descriptor.channels(atoms),
                error,
                self._force_model.leverage(atoms),
                audited=audited,
            )
        self.add(atoms, labels, time_fs=time_fs, trajectory=trajectory)
        if regularisation.is_due(self._choice, self._n_known):
            self._choose()
        self._solve()

    @in_one_thread
    def add(self, atoms: Atoms, labels: Labels, *, time_fs: float, trajectory: int = 0) -> None:
        """Add one label without choosing and solving; see :meth:`learn`."""
        self._labels.remember(Taught(atoms, labels, time_fs, trajectory))
        if self._labels.has_all_environments:
            self._labels.add_latest()
        else:
            before = latest_leverage(self._labels.current, self._choice)
            self._labels.rebuild(self._labels.size)
            self._rescale(before)

    @in_one_thread
    def settle(self, *, ahead: float = 1.0) -> None:
        """Choose size, order and prior for the labels added, and solve.

        Parameters
        ----------
        ahead
            Labels to come, relative to those added, that the largest models may be for.

        Raises
        ------
        RunError
            If no label was added.
        """
        if not self.has_learned:
            raise RunError("there is nothing to learn from")
        regression = self._labels.current
        self._choice = regularisation.converge(
            regression.equations, regression.leading, self._choice, thorough=True
        )
        if self._n_known >= _FIRST_SEARCH:
            self._choice = self._labels.search(self._choice, ahead=ahead)
            regression = self._labels.current
            self._choice = regularisation.converge(
                regression.equations, regression.leading, self._choice, thorough=True
            )
        scale = left_out_scale(self._labels.current, self._labels.examples, self._choice)
        self._scale = scale or self._scale
        self._solve()

    @in_one_thread
    def learning_curve(self) -> list[CurvePoint]:
        """Left-out errors of the present model by a part of the labels and by all of them."""
        return learning_curve(self._labels, self._choice)

    def capture(self) -> TrainerState:
        """State that, with the labels, restores this trainer exactly."""
        return TrainerState(
            self.n_labels,
            self._labels.reference_energy,
            self._labels.size,
            self._labels.tried_at,
            self._labels.saturated,
            self._choice,
            self._scale,
            np.array(self._residuals),
            self._force_model.theta,
            gain=self._labels.gain,
        )

    @in_one_thread
    def restore(self, state: TrainerState, labelled: Iterable[Taught]) -> None:
        """Restore a captured state from the labels learned up to it.

        Raises
        ------
        RunError
            If the labels are not those the state was made with.
        """
        self._labels.gain = state.gain
        if state.gain is not None and state.gain.dropped:
            self._labels.drop_baseline()
        for taught in (*self.earlier, *labelled):
            self._labels.remember(taught)
        self._labels.tried_at, self._labels.saturated = state.tried_at, state.saturated
        if self.has_learned:
            self._labels.make_room()
        self._labels.rebuild(state.size)
        if self.n_labels != state.n_labels:
            raise RunError(
                f"the checkpoint was made with {state.n_labels} labels, but {self.n_labels} are "
                "there; put the labels file of this run back in its place"
            )
        self._choice, self._scale = state.choice, state.scale
        self._residuals = list(state.residuals)
        if not self.has_learned:
            return
        latest = self._labels.examples[-1].atoms
        self._solve()
        if len(state.theta) != self.model.n_columns:
            raise RunError(_OTHER_LABELS)
        posterior, rebuilt = self._force_model.posterior, self.predict(latest)
        # The stored coefficients are exact, even if another machine rounds differently.
        self._set_model(state.theta, posterior)
        stored = self.predict(latest)
        same = self._labels.reference_energy == state.reference_energy
        if not same or np.abs(rebuilt.forces - stored.forces).max() > _SAME_FORCES:
            raise RunError(_OTHER_LABELS)

    def _choose(self) -> None:
        """Update order and prior, and the size whenever the labels have doubled.

        Sooner where more labels of the same model do not help.
        """
        before = latest_leverage(self._labels.current, self._choice)
        size, baseline = self.size, self._labels.baseline
        sooner = self._n_known <= _EARLY or self._is_saturated()
        again = _SOONER if sooner else LABELS_AHEAD
        if self._n_known >= max(_FIRST_SEARCH, again * self._labels.tried_at):
            self._choice = self._labels.search(self._choice)
        regression = self._labels.current
        settled = self._n_known > _UNSETTLED or regression.equations.n_unknowns > _MANY
        find = regularisation.search if settled else regularisation.converge
        self._choice = find(regression.equations, regression.leading, self._choice)
        if self.size != size or self._labels.baseline is not baseline:
            scale = left_out_scale(regression, self._labels.examples, self._choice)
            self._scale = scale or self._scale
        else:
            self._rescale(before)

    def _is_saturated(self) -> bool:
        """Whether misfit and noise, not the lack of labels, make most of the error."""
        errors = [float(np.abs(r).mean()) for r in self._residuals]
        return bool(errors) and self._floor > _SATURATED * float(np.median(errors))

    def _solve(self) -> None:
        regression = self._labels.current
        leading = regression.leading[self._choice.order]
        solution = None
        for strength in regularisation.GRID[self._choice.position[self._choice.order] :]:
            solution = regression.equations.solve(leading, float(strength))
            if solution is not None:
                break
        if solution is None:
            raise RunError(
                "the normal equations cannot be solved at any prior strength: the structures are "
                "all alike, or a label is not physical; look at the labels file"
            )
        theta = np.zeros(self.model.n_columns)
        theta[:leading] = solution.coefficients
        samples = solution.samples(SAMPLES)
        self._floor = floor_of(regression, self._labels.examples, solution.coefficients, samples)
        self._set_model(theta, Posterior(samples, self.settings.force_noise))

    def _set_model(self, theta: Floats, posterior: Posterior | None) -> None:
        order = self._choice.order
        self._force_model = ForceModel(
            self.model,
            theta,
            order,
            self.model.tensors(theta, order=order),
            self._labels.reference_energy,
            self._scale,
            posterior,
            self._labels.baseline,
        )

    def _rescale(self, before: Floats) -> None:
        """Keep the predicted errors of a model whose leverages have changed, but not its errors.

        Of the latest labels half the components must agree, as one of them may be far from all.

        Parameters
        ----------
        before
            Leverages of the latest labels before the change.
        """
        ratio = float(np.median(before / latest_leverage(self._labels.current, self._choice)))
        self._scale = self._scale.rescaled(math.sqrt(ratio))

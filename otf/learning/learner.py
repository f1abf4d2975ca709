"""Interface of a trainer as a run uses it."""

from collections.abc import Iterable
from typing import Protocol

from ase import Atoms

from otf.arrays import Floats
from otf.engines.labels import Labels
from otf.learning.force_model import ForceModel
from otf.learning.regression import Taught, TrainerSettings
from otf.learning.regularisation import Regularisation
from otf.learning.trainer import TrainerState
from otf.model.blueprint import Size
from otf.model.residual import Forecast
from otf.model.tensor_energy import Prediction


class Learner(Protocol):
    """A :class:`~otf.learning.trainer.Trainer`, or one replica's view of a shared one."""

    settings: TrainerSettings

    @property
    def n_labels(self) -> int:
        """Number of labels of this run that were learned."""
        ...

    @property
    def has_learned(self) -> bool:
        """Whether the model has learned anything, of this run or of earlier ones."""
        ...

    @property
    def choice(self) -> Regularisation:
        """Polynomial order and prior strength in use."""
        ...

    @property
    def size(self) -> Size:
        """Size of the model."""
        ...

    @property
    def floor(self) -> float:
        """See :attr:`Trainer.floor`."""
        ...

    @property
    def usual_error(self) -> float:
        """See :attr:`Trainer.usual_error`."""
        ...

    @property
    def saturated(self) -> bool:
        """See :attr:`Trainer.saturated`."""
        ...

    @property
    def force_model(self) -> ForceModel:
        """The present model."""
        ...

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces and stress by the present model."""
        ...

    def predicted_error(self, atoms: Atoms) -> Floats:
        """Expected error of each force component (N, 3), eV/Angstrom."""
        ...

    def energy_error(self, atoms: Atoms) -> float:
        """Expected error of the energy, eV."""
        ...

    def worst_error(self, atoms: Atoms, *, enough: float = 0.0, turn: int = 0) -> float:
        """Largest expected error of an atom, eV/Angstrom."""
        ...

    def residual_forecast(self, n_labels: int) -> Forecast | None:
        """See :meth:`Trainer.residual_forecast`."""
        ...

    def error_forecast(self) -> Forecast | None:
        """See :meth:`Trainer.error_forecast`."""
        ...

    def begin(self) -> None:
        """Learn the labels of earlier runs, if there are any; instead of :meth:`restore`."""
        ...

    def learn(self, atoms: Atoms, labels: Labels, *, time_fs: float, audited: bool) -> None:
        """Learn one label."""
        ...

    def capture(self) -> TrainerState:
        """State that, with the labels, restores the trainer."""
        ...

    def restore(self, state: TrainerState, labelled: Iterable[Taught]) -> None:
        """Restore a captured state from the learned labels of this run."""
        ...

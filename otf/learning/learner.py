"""What a run needs of whatever learns for it."""

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
    """A :class:`~otf.learning.trainer.Trainer`, or one replica's part in it."""

    settings: TrainerSettings

    @property
    def n_labels(self) -> int:
        """Labels of this run that were learned."""
        ...

    @property
    def choice(self) -> Regularisation:
        """Rank and prior strength in force."""
        ...

    @property
    def size(self) -> Size:
        """What the model is made of."""
        ...

    @property
    def force_model(self) -> ForceModel:
        """The model as it is."""
        ...

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces and stress by the model as it is."""
        ...

    def predicted_error(self, atoms: Atoms) -> Floats:
        """Expected error of each force component (N, 3), eV/Angstrom."""
        ...

    def worst_error(self, atoms: Atoms) -> float:
        """Largest expected error of an atom, eV/Angstrom."""
        ...

    def residual_forecast(self, n_labels: int) -> Forecast | None:
        """See :meth:`Trainer.residual_forecast`."""
        ...

    def error_forecast(self) -> Forecast | None:
        """See :meth:`Trainer.error_forecast`."""
        ...

    def learn(self, atoms: Atoms, labels: Labels, *, time_fs: float, audited: bool) -> None:
        """Take one label in."""
        ...

    def capture(self) -> TrainerState:
        """State that, with the labels, restores what was learned."""
        ...

    def restore(self, state: TrainerState, labelled: Iterable[Taught]) -> None:
        """Go back to a captured state, from the labels of this run that were learned."""
        ...

"""One model shared by several replicas: every label is learned for all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ase import Atoms

from otf.arrays import Floats
from otf.engines.labels import Labels
from otf.errors import RunError
from otf.learning.force_model import ForceModel
from otf.learning.regression import Taught, TrainerSettings
from otf.learning.regularisation import Regularisation
from otf.learning.trainer import Trainer, TrainerState
from otf.model.blueprint import Size
from otf.model.residual import Forecast
from otf.model.tensor_energy import Prediction


class SharedTrainer:
    """A trainer with the replica of each learned label, in order.

    Parameters
    ----------
    trainer
        Without any learned label.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.replicas: list[int] = []

    def restore(self, states: Sequence[TrainerState], taught: Sequence[Sequence[Taught]]) -> None:
        """Restore the latest of the replicas' states, and learn the labels taken after it.

        Parameters
        ----------
        states
            States of the replicas that have one.
        taught
            Labels of each replica, in their order.

        Raises
        ------
        RunError
            If labels are missing, or are not those the state was made with.
        """
        rest = [list(labels) for labels in taught]
        if states:
            latest = max(states, key=lambda s: len(s.replicas))
            self.replicas = list(latest.replicas)
            known = []
            for replica in self.replicas:
                if not rest[replica]:
                    raise RunError(
                        f"replica {replica}: labels are missing; put its labels file back in its "
                        "place"
                    )
                known.append(rest[replica].pop(0))
            self.trainer.restore(latest, known)
        else:
            self.trainer.begin()
        for replica, labels in enumerate(rest):  # computed, but not committed
            for atoms, label, time_fs, _ in labels:
                self.learn(replica, atoms, label, time_fs=time_fs, audited=False)

    def learn(
        self, replica: int, atoms: Atoms, labels: Labels, *, time_fs: float, audited: bool
    ) -> None:
        """Learn a label of a replica."""
        self.trainer.learn(atoms, labels, time_fs=time_fs, audited=audited, trajectory=replica)
        self.replicas.append(replica)


class ReplicaTrainer:
    """A replica's view of a shared trainer, which counts the replica's own labels.

    Parameters
    ----------
    shared
        The shared trainer.
    replica
        Number of the replica, from 0.
    """

    def __init__(self, shared: SharedTrainer, replica: int) -> None:
        self._shared = shared
        self._trainer = shared.trainer
        self._replica = replica
        self.settings: TrainerSettings = shared.trainer.settings

    @property
    def n_labels(self) -> int:
        """Number of labels of this replica that were learned."""
        return self._shared.replicas.count(self._replica)

    @property
    def has_learned(self) -> bool:
        """Whether the model has learned anything of this replica or of earlier runs.

        Other replicas may begin with the same structure, whose error says nothing then.
        """
        return self.n_labels > 0 or len(self._trainer.earlier) > 0

    @property
    def choice(self) -> Regularisation:
        """Polynomial order and prior strength in use."""
        return self._trainer.choice

    @property
    def size(self) -> Size:
        """Size of the model."""
        return self._trainer.size

    @property
    def floor(self) -> float:
        """See :attr:`Trainer.floor`."""
        return self._trainer.floor

    @property
    def usual_error(self) -> float:
        """See :attr:`Trainer.usual_error`."""
        return self._trainer.usual_error

    @property
    def saturated(self) -> bool:
        """See :attr:`Trainer.saturated`."""
        return self._trainer.saturated

    @property
    def force_model(self) -> ForceModel:
        """The present model."""
        return self._trainer.force_model

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces and stress by the present model."""
        return self._trainer.predict(atoms)

    def predicted_error(self, atoms: Atoms) -> Floats:
        """Expected error of each force component (N, 3), eV/Angstrom."""
        return self._trainer.predicted_error(atoms)

    def energy_error(self, atoms: Atoms) -> float:
        """Expected error of the energy, eV."""
        return self._trainer.energy_error(atoms)

    def worst_error(self, atoms: Atoms, *, enough: float = 0.0, turn: int = 0) -> float:
        """Largest expected error of an atom, eV/Angstrom."""
        return self._trainer.worst_error(atoms, enough=enough, turn=turn)

    def residual_forecast(self, n_labels: int) -> Forecast | None:
        """None: labels of replicas are not a time series."""
        return None

    def error_forecast(self) -> Forecast | None:
        """None, as :meth:`residual_forecast`."""
        return None

    def begin(self) -> None:
        """Do nothing: the shared trainer begins once for all replicas."""

    def learn(self, atoms: Atoms, labels: Labels, *, time_fs: float, audited: bool) -> None:
        """Learn one label for all replicas."""
        self._shared.learn(self._replica, atoms, labels, time_fs=time_fs, audited=audited)

    def capture(self) -> TrainerState:
        """The state of the shared trainer."""
        return replace(self._trainer.capture(), replicas=tuple(self._shared.replicas))

    def restore(self, state: TrainerState, labelled: Iterable[Taught]) -> None:
        """Do nothing: the shared trainer is restored once for all replicas."""

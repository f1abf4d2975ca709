"""The model that learns: predicts, measures its error at a label, takes the label in."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.errors import RunError
from otf.labels import Labels
from otf.learning import regularisation
from otf.learning.regularisation import Regularisation
from otf.learning.uncertainty import ErrorScale
from otf.model.normal_equations import NormalEquations, Solution
from otf.model.tensor_energy import Prediction, TensorEnergy

_BLOCK_FS = 20.0  # labels closer in time than this say much the same
_CONSTANT_PRIOR = 1e-6  # the energy zero of a species is held a million times more loosely


@dataclass(frozen=True)
class TrainerSettings:
    """How labels are weighed.

    Attributes
    ----------
    energy_noise, force_noise
        Expected misfits, eV and eV/Angstrom; only their ratio and the scale of lambda depend on
        them.
    forgetting
        Weight of the past at each label.
    ranks
        Ranks to choose from.
    """

    energy_noise: float = 0.01
    force_noise: float = 0.03
    forgetting: float = 1.0
    ranks: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, eq=False)
class TrainerState:
    """What must survive beside the labels themselves."""

    n_labels: int
    reference_energy: float
    choice: Regularisation
    scale: ErrorScale
    theta: Floats


class Trainer:
    """Learns labels of one system and predicts its energies and forces.

    Parameters
    ----------
    model
        Rows and predictions.
    settings
        Weights, forgetting, ranks.
    """

    def __init__(self, model: TensorEnergy, settings: TrainerSettings) -> None:
        self.model = model
        self.settings = settings
        rank = model.columns.rank
        self._active = {r: model.columns.active(r) for r in settings.ranks}
        self._equations = NormalEquations(np.where(rank == 0, _CONSTANT_PRIOR, 1.0))
        self._reference_energy = 0.0
        self._block, self._block_began_fs = -1, -np.inf
        self._choice = regularisation.start(settings.ranks)
        self._scale = ErrorScale.unknown(len(model.descriptor.species))
        self._solution: Solution | None = None
        self._set_theta(np.zeros(len(rank)))

    @property
    def n_labels(self) -> int:
        """Labels learned so far."""
        return self._equations.n_snapshots

    @property
    def choice(self) -> Regularisation:
        """Rank and prior strength in force."""
        return self._choice

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces and stress by the model as it is."""
        raw = self.model.evaluate(atoms, self._tensors)
        return replace(raw, energy=raw.energy + self._reference_energy)

    def predicted_error(self, atoms: Atoms) -> Floats:
        """Expected root mean square error of the force components of each atom (N,), eV/Angstrom.

        Infinite before two labels have been learned.
        """
        if self._solution is None:
            return np.full(len(atoms), np.inf)
        channels = self.model.descriptor.channels(atoms)
        leverage = self._force_leverage(self._solution, self._weighted_rows(atoms))
        return self._scale.predicted_error(channels, leverage)

    def learn(self, atoms: Atoms, labels: Labels, *, time_fs: float) -> None:
        """Take one label in: measure the error scale, add its rows, choose, solve.

        Parameters
        ----------
        time_fs
            When it was taken; labels close in time are left out together when the model is judged.
        """
        rows = self._weighted_rows(atoms)
        if self._solution is not None:
            residual = labels.forces - self.predict(atoms).forces
            self._scale = self._scale.updated(
                self.model.descriptor.channels(atoms),
                residual,
                self._force_leverage(self._solution, rows),
            )
        self._add(rows, labels, time_fs)
        if regularisation.is_due(self._choice, self.n_labels):
            self._choice = regularisation.search(self._equations, self._active, self._choice)
        self._solve()

    def capture(self) -> TrainerState:
        """State that, with the labels, restores this trainer exactly."""
        return TrainerState(
            self.n_labels, self._reference_energy, self._choice, self._scale, self._theta.copy()
        )

    def restore(self, state: TrainerState, labelled: Iterable[tuple[Atoms, Labels, float]]) -> None:
        """Go back to a captured state, from the labels learned up to it, with their times in fs.

        Raises
        ------
        RunError
            If the labels are not those the state was made with.
        """
        for atoms, labels, time_fs in labelled:
            self._add(self._weighted_rows(atoms), labels, time_fs)
        if self.n_labels != state.n_labels:
            raise RunError(
                f"the checkpoint was made with {state.n_labels} labels, but {self.n_labels} are "
                "there; put the labels file of this run back in its place"
            )
        self._choice, self._scale = state.choice, state.scale
        if self.n_labels:
            self._solve()
            same = self._reference_energy == state.reference_energy
            if not same or not np.allclose(self._theta, state.theta, rtol=1e-4, atol=1e-6):
                raise RunError(
                    "the labels do not give the model of the checkpoint; put the labels file of "
                    "this run back in its place"
                )
        # The stored coefficients are the exact ones, also where another machine sums differently.
        self._set_theta(state.theta)

    def _weighted_rows(self, atoms: Atoms) -> Floats:
        """Energy and force rows in units of their expected noise."""
        rows = self.model.design(atoms)[: 1 + 3 * len(atoms)]
        rows[0] /= self.settings.energy_noise
        rows[1:] /= self.settings.force_noise
        return rows

    def _add(self, rows: Floats, labels: Labels, time_fs: float) -> None:
        if self.n_labels == 0:
            self._reference_energy = labels.energy
        if time_fs - self._block_began_fs >= _BLOCK_FS:
            self._block, self._block_began_fs = self._block + 1, time_fs
        targets = np.empty(len(rows))
        targets[0] = (labels.energy - self._reference_energy) / self.settings.energy_noise
        targets[1:] = labels.forces.ravel() / self.settings.force_noise
        self._equations.add(rows, targets, block=self._block, forgetting=self.settings.forgetting)

    def _solve(self) -> None:
        active = self._active[self._choice.rank]
        solution = None
        for strength in regularisation.GRID[self._choice.position[self._choice.rank] :]:
            solution = self._equations.solve(active, float(strength))
            if solution is not None:
                break
        if solution is None:
            raise RunError(
                "the normal equations cannot be solved at any prior strength; the labels file "
                "probably holds a label that is not physical"
            )
        self._solution = solution
        self._set_theta(solution.theta())

    def _set_theta(self, theta: Floats) -> None:
        self._theta = theta
        self._tensors = self.model.tensors(theta, rank=self._choice.rank)

    @staticmethod
    def _force_leverage(solution: Solution, rows: Floats) -> Floats:
        """Mean over x, y, z of the leverage of each atom's force rows (N,)."""
        out: Floats = solution.leverage(rows[1:]).reshape(-1, 3).mean(axis=1)
        return out

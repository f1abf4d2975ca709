"""The model that learns: predicts, measures its error at a label, takes the label in."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.errors import RunError
from otf.labels import Labels
from otf.learning import regularisation
from otf.learning.force_model import ForceModel, Posterior
from otf.learning.regularisation import Regularisation
from otf.learning.uncertainty import ErrorScale
from otf.model.normal_equations import NormalEquations
from otf.model.one_thread import in_one_thread
from otf.model.tensor_energy import Prediction, TensorEnergy

_BLOCK_FS = 20.0  # labels closer in time than this say much the same
_SAME_FORCES = 1e-5  # eV/Angstrom; rounding on another machine stays far below
_CONSTANT_PRIOR = 1e-6  # the energy zero of a species is held a million times more loosely


@dataclass(frozen=True)
class TrainerSettings:
    """How labels are weighed.

    Attributes
    ----------
    energy_noise, force_noise
        Expected misfits, eV and eV/Angstrom; only their ratios and the scale of lambda depend on
        them.
    stress_noise, atomic_energy_noise
        The same for the stress (eV/Angstrom^3) and the energies of atoms (eV); None leaves what the
        engine says of them unlearned.
    forgetting
        Weight of the past at each label.
    ranks
        Ranks to choose from.
    keep_blocks
        Blocks of labels kept for judging the model without them.
    """

    energy_noise: float = 0.01
    force_noise: float = 0.03
    stress_noise: float | None = None
    atomic_energy_noise: float | None = None
    forgetting: float = 1.0
    ranks: tuple[int, ...] = (1, 2)
    keep_blocks: int = 12


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
        prior = np.where(rank == 0, _CONSTANT_PRIOR, 1.0)
        self._equations = NormalEquations(prior, keep_blocks=settings.keep_blocks)
        self._reference_energy = 0.0
        self._block, self._block_began_fs = -1, -np.inf
        self._choice = regularisation.start(settings.ranks)
        self._scale = ErrorScale.unknown(len(model.descriptor.species))
        self._set_model(np.zeros(len(rank)), None)

    @property
    def n_labels(self) -> int:
        """Labels learned so far."""
        return self._equations.n_snapshots

    @property
    def choice(self) -> Regularisation:
        """Rank and prior strength in force."""
        return self._choice

    @property
    def force_model(self) -> ForceModel:
        """The model as it is."""
        return self._force_model

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces and stress by the model as it is."""
        return self._force_model.predict(atoms)

    @in_one_thread
    def predicted_error(self, atoms: Atoms) -> Floats:
        """Expected root mean square error of the force components of each atom (N,), eV/Angstrom.

        Infinite before two labels have been learned.
        """
        return self._force_model.predicted_error(atoms)

    @in_one_thread
    def learn(self, atoms: Atoms, labels: Labels, *, time_fs: float) -> None:
        """Take one label in: measure the error scale, add its rows, choose, solve.

        Parameters
        ----------
        time_fs
            When it was taken; labels close in time are left out together when the model is judged.
        """
        if self.n_labels:
            self._scale = self._scale.updated(
                self.model.descriptor.channels(atoms),
                labels.forces - self.predict(atoms).forces,
                self._force_model.leverage(atoms),
            )
        self.add(atoms, labels, time_fs=time_fs)
        if regularisation.is_due(self._choice, self.n_labels):
            self._choice = regularisation.search(self._equations, self._active, self._choice)
        self._solve()

    def add(self, atoms: Atoms, labels: Labels, *, time_fs: float) -> None:
        """Take the rows of one label in, without solving; see :meth:`learn`."""
        if self.n_labels == 0:
            self._reference_energy = labels.energy / len(atoms)
        if time_fs - self._block_began_fs >= _BLOCK_FS:
            self._block, self._block_began_fs = self._block + 1, time_fs
        rows, targets = self._equation(atoms, labels)
        self._equations.add(rows, targets, block=self._block, forgetting=self.settings.forgetting)

    @in_one_thread
    def settle(self) -> None:
        """Choose rank and prior as well as what was added allows, and solve.

        Raises
        ------
        RunError
            If there is nothing to learn from.
        """
        if not self.n_labels:
            raise RunError("there is nothing to learn from")
        before = None
        while before is None or self._choice != before:
            before = self._choice
            self._choice = regularisation.search(self._equations, self._active, before)
        self._solve()

    def capture(self) -> TrainerState:
        """State that, with the labels, restores this trainer exactly."""
        return TrainerState(
            self.n_labels,
            self._reference_energy,
            self._choice,
            self._scale,
            self._force_model.theta,
        )

    @in_one_thread
    def restore(self, state: TrainerState, labelled: Iterable[tuple[Atoms, Labels, float]]) -> None:
        """Go back to a captured state, from the labels learned up to it, with their times in fs.

        Raises
        ------
        RunError
            If the labels are not those the state was made with.
        """
        latest = None
        for atoms, labels, time_fs in labelled:
            self.add(atoms, labels, time_fs=time_fs)
            latest = atoms
        if self.n_labels != state.n_labels:
            raise RunError(
                f"the checkpoint was made with {state.n_labels} labels, but {self.n_labels} are "
                "there; put the labels file of this run back in its place"
            )
        self._choice, self._scale = state.choice, state.scale
        if latest is None:
            return
        self._solve()
        posterior, rebuilt = self._force_model.posterior, self.predict(latest)
        # The stored coefficients are the exact ones, also where another machine sums differently.
        self._set_model(state.theta, posterior)
        stored = self.predict(latest)
        same = self._reference_energy == state.reference_energy
        if not same or np.abs(rebuilt.forces - stored.forces).max() > _SAME_FORCES:
            raise RunError(
                "the labels do not give the model of the checkpoint; put the labels file of this "
                "run back in its place"
            )

    def _equation(self, atoms: Atoms, labels: Labels) -> tuple[Floats, Floats]:
        """Rows and targets of one label in units of their expected noise.

        Order: energy, forces, then stress and energies of atoms where they are learned.
        """
        settings, n = self.settings, len(atoms)
        design = self.model.design(atoms)
        rows = [design[:1] / settings.energy_noise, design[1 : 1 + 3 * n] / settings.force_noise]
        energy = labels.energy - n * self._reference_energy
        targets = [np.array([energy / settings.energy_noise])]
        targets.append(labels.forces.ravel() / settings.force_noise)
        if settings.stress_noise is not None and labels.stress is not None:
            scale = 1.0 / (atoms.get_volume() * settings.stress_noise)
            rows.append(design[1 + 3 * n :] * scale)
            targets.append(labels.stress.ravel() / settings.stress_noise)
        if settings.atomic_energy_noise is not None and labels.atomic_energies is not None:
            rows.append(self.model.atomic_rows(atoms) / settings.atomic_energy_noise)
            energies = labels.atomic_energies - self._reference_energy
            targets.append(energies / settings.atomic_energy_noise)
        return np.concatenate(rows), np.concatenate(targets)

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
        posterior = Posterior(active, solution.factor, self.settings.force_noise)
        self._set_model(solution.theta(), posterior)

    def _set_model(self, theta: Floats, posterior: Posterior | None) -> None:
        rank = self._choice.rank
        self._force_model = ForceModel(
            self.model,
            theta,
            rank,
            self.model.tensors(theta, rank=rank),
            self._reference_energy,
            self._scale,
            posterior,
        )

"""A fitted force model: predictions and their expected errors.

The leverage of a force component, x^T A^-1 x, is estimated by random coefficients of covariance
A^-1 (:meth:`otf.model.equations.Solution.samples`): the mean square of the component over
them. They take far less memory than A, and each costs no more than the forces of the model.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.kernels.energy import Tensors
from otf.learning.baseline import NO_BASELINE, Baseline
from otf.learning.uncertainty import ErrorScale
from otf.model.one_thread import in_one_thread
from otf.model.tensor_energy import Prediction, TensorEnergy

SAMPLES = 64
"""Random coefficients of a model: their predicted errors scatter by a tenth."""

_GLANCE = 2  # of them, at a first look at the largest predicted error


@dataclass(frozen=True, eq=False)
class Posterior:
    """Random coefficients of the posterior, for the leverage of a geometry.

    Attributes
    ----------
    samples
        (samples, leading) coefficients of the leading columns, those in use, in units of the noise.
    force_noise
        Expected misfit the rows were divided by, eV/Angstrom.
    """

    samples: Floats
    force_noise: float


@dataclass(frozen=True, eq=False)
class ForceModel:
    """Coefficients with the energy model that they belong to.

    Attributes
    ----------
    energy_model
        Descriptor, sharing, standardisation.
    theta, order
        Coefficients (columns,), eV, and the polynomial order in use.
    reference_energy
        Energy added per atom, eV.
    scale, posterior
        For the predicted errors; ``posterior`` is None before anything was learned.
    baseline
        Added to what was learned.
    """

    energy_model: TensorEnergy
    theta: Floats
    order: int
    tensors: Tensors
    reference_energy: float
    scale: ErrorScale
    posterior: Posterior | None
    baseline: Baseline = NO_BASELINE
    _sampled: dict[int, Tensors] = field(default_factory=dict, repr=False)
    _latest: dict[bytes, tuple[float, Floats]] = field(default_factory=dict, repr=False)

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces and stress.

        Raises
        ------
        ValueError
            If the structure has a species that is not in the model.
        EngineError
            If the baseline cannot be computed.
        """
        return self.baseline.added_to(self.learned(atoms), atoms)

    def predict_fast(self, atoms: Atoms) -> Prediction:
        """The same with models in the place of the engines of the baseline that have one.

        See :attr:`otf.learning.baseline.Baseline.stepping`.
        """
        stepping = self.baseline.stepping
        baseline = self.baseline if stepping is None else stepping.fast
        return baseline.added_to(self.learned(atoms), atoms)

    def learned(self, atoms: Atoms) -> Prediction:
        """Energy, forces and stress without the baseline."""
        raw = self.energy_model.evaluate(atoms, self.tensors)
        return replace(
            raw,
            energy=raw.energy + len(atoms) * self.reference_energy,
            atomic_energies=raw.atomic_energies + self.reference_energy,
        )

    def leverage(self, atoms: Atoms) -> Floats:
        """Leverage of each force component (N, 3); infinite before anything was learned."""
        return self._leverages(atoms)[1]

    @in_one_thread
    def _leverages(self, atoms: Atoms) -> tuple[float, Floats]:
        """Leverage of the energy, Angstrom^2, and of each force component (N, 3).

        Those of the latest structure are kept: they are used several times at a label.
        """
        posterior = self.posterior
        if posterior is None:
            return np.inf, np.full((len(atoms), 3), np.inf)
        key = atoms.positions.tobytes() + atoms.cell.array.tobytes()
        found = self._latest.get(key)
        if found is None:
            leading = posterior.samples.shape[1]
            rows = self.energy_model.design(atoms)[: 1 + 3 * len(atoms), :leading]
            square = np.mean((rows @ posterior.samples.T) ** 2, axis=1) / posterior.force_noise**2
            found = float(square[0]), square[1:].reshape(-1, 3)
            self._latest.clear()
            self._latest[key] = found
        return found

    def predicted_error(self, atoms: Atoms) -> Floats:
        """Expected error of each force component (N, 3), eV/Angstrom.

        Infinite for species whose errors were never measured.
        """
        channels = self.energy_model.descriptor.channels(atoms)
        return self.scale.predicted_error(channels, self.leverage(atoms))

    def energy_error(self, atoms: Atoms) -> float:
        """Expected error of the energy, eV: its leverage at the scale of the force errors.

        Infinite before anything was learned.
        """
        channels = self.energy_model.descriptor.channels(atoms)
        leverage = np.full((len(atoms), 3), self._leverages(atoms)[0])
        return float(self.scale.predicted_error(channels, leverage).max())

    def worst_error(self, atoms: Atoms, *, enough: float = 0.0, turn: int = 0) -> float:
        """Largest expected error of an atom, root mean square over its components, eV/Angstrom.

        Parameters
        ----------
        enough
            Where a glance with a few samples stays below this, its estimate is returned. It
            scatters by a third; the largest of many atoms is rather too large.
        turn
            Chooses the samples of the glance; different ones at each look miss nothing for long.
        """
        if self.posterior is not None and enough > 0.0:
            glance = self._largest(atoms, self._glance(atoms, self.posterior, turn))
            if glance < enough:
                return glance
        return self._largest(atoms, self.leverage(atoms))

    def _largest(self, atoms: Atoms, leverage: Floats) -> float:
        channels = self.energy_model.descriptor.channels(atoms)
        error = self.scale.root_mean_square(channels, leverage)
        return float(np.sqrt(np.mean(error**2, axis=1)).max())

    def _glance(self, atoms: Atoms, posterior: Posterior, turn: int) -> Floats:
        """Leverages (N, 3) by a few samples, each at the cost of the forces."""
        count = len(posterior.samples)
        square = np.zeros((len(atoms), 3))
        for i in range(_GLANCE):
            number = (turn * _GLANCE + i) % count
            if number not in self._sampled:
                theta = np.zeros(self.energy_model.n_columns)
                theta[: posterior.samples.shape[1]] = posterior.samples[number]
                self._sampled[number] = self.energy_model.tensors(theta, order=self.order)
            square += self.energy_model.evaluate(atoms, self._sampled[number]).forces ** 2
        return square / (_GLANCE * posterior.force_noise**2)

"""A fitted force model: predictions and their expected errors."""

from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.kernels.energy import Tensors
from otf.learning.uncertainty import ErrorScale
from otf.model.normal_equations import leverage
from otf.model.tensor_energy import Prediction, TensorEnergy


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior covariance factor, for the leverage of a geometry.

    Attributes
    ----------
    factor
        Lower Cholesky factor of G + lambda Lambda on the leading columns, those in use; entries
        above the diagonal are undefined.
    force_noise
        Expected misfit the rows were divided by, eV/Angstrom.
    """

    factor: Floats
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
    """

    energy_model: TensorEnergy
    theta: Floats
    order: int
    tensors: Tensors
    reference_energy: float
    scale: ErrorScale
    posterior: Posterior | None

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces and stress.

        Raises
        ------
        ValueError
            If the structure has a species that is not in the model.
        """
        raw = self.energy_model.evaluate(atoms, self.tensors)
        return replace(
            raw,
            energy=raw.energy + len(atoms) * self.reference_energy,
            atomic_energies=raw.atomic_energies + self.reference_energy,
        )

    def leverage(self, atoms: Atoms) -> Floats:
        """Leverage of each force component (N, 3); infinite before anything was learned."""
        posterior = self.posterior
        if posterior is None:
            return np.full((len(atoms), 3), np.inf)
        rows = self.energy_model.design(atoms)[1 : 1 + 3 * len(atoms), : len(posterior.factor)]
        return leverage(posterior.factor, rows / posterior.force_noise).reshape(-1, 3)

    def predicted_error(self, atoms: Atoms) -> Floats:
        """Expected error of each force component (N, 3), eV/Angstrom.

        Infinite for species whose errors were never measured.
        """
        channels = self.energy_model.descriptor.channels(atoms)
        return self.scale.predicted_error(channels, self.leverage(atoms))

    def worst_error(self, atoms: Atoms) -> float:
        """Largest expected error of an atom, root mean square over its components, eV/Angstrom."""
        channels = self.energy_model.descriptor.channels(atoms)
        error = self.scale.root_mean_square(channels, self.leverage(atoms))
        return float(np.sqrt(np.mean(error**2, axis=1)).max())

"""What has been learned, ready to use and to keep: predictions, their error, a file."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.errors import FileError
from otf.io.state_file import read_state, write_state
from otf.kernels.energy import Tensors
from otf.kernels.rows import Standard
from otf.learning.uncertainty import ErrorScale
from otf.model.descriptor import Descriptor, DescriptorSettings
from otf.model.normal_equations import leverage
from otf.model.sharing import Groups, Sharing
from otf.model.tensor_energy import Coupling, Prediction, TensorEnergy

_KIND = "model"


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is needed to say how far a geometry is from all that was learned.

    Attributes
    ----------
    factor
        Lower Cholesky factor of G + lambda Lambda on the leading columns, those in use; what is
        above the diagonal means nothing.
    force_noise
        Expected misfit the rows were divided by, eV/Angstrom.
    """

    factor: Floats
    force_noise: float


@dataclass(frozen=True, eq=False)
class ForceModel:
    """Coefficients with the rules that turn a structure into energy and forces.

    Attributes
    ----------
    energy_model
        Descriptor, sharing, standardisation.
    theta, rank
        Coefficients (columns,), eV, and the rank in use.
    reference_energy
        Added for each atom, eV.
    scale, posterior
        For the predicted errors; ``posterior`` is None before anything was learned.
    """

    energy_model: TensorEnergy
    theta: Floats
    rank: int
    tensors: Tensors
    reference_energy: float
    scale: ErrorScale
    posterior: Posterior | None

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces and stress.

        Raises
        ------
        ValueError
            If the structure has a species the model does not know.
        """
        raw = self.energy_model.evaluate(atoms, self.tensors)
        return replace(
            raw,
            energy=raw.energy + len(atoms) * self.reference_energy,
            atomic_energies=raw.atomic_energies + self.reference_energy,
        )

    def leverage(self, atoms: Atoms) -> Floats:
        """Leverage of each force component (N, 3); infinite if unknown."""
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

    def write(self, path: Path) -> None:
        """Keep the model in a file.

        Raises
        ------
        FileError
            If the disk does not take it.
        """
        descriptor, standard = self.energy_model.descriptor, self.energy_model.standard
        scalars = {
            "descriptor": asdict(descriptor.settings),
            "groups": asdict(self.energy_model.sharing.groups),
            "coupling": self.energy_model.coupling,
            "rank": self.rank,
            "reference_energy": self.reference_energy,
            "error_level": self.scale.level,
            "force_noise": None if self.posterior is None else self.posterior.force_noise,
        }
        arrays = {
            "mean": standard.mean,
            "scale": standard.scale,
            "components": standard.components,
            "theta": self.theta,
            "error_total": self.scale.total,
            "error_weight": self.scale.weight,
            "error_ratios": self.scale.ratios,
        }
        if self.posterior is not None:
            arrays["factor"] = np.tril(self.posterior.factor)
        write_state(path, _KIND, scalars, arrays)


def read_model(path: Path) -> ForceModel:
    """A model from its file.

    Raises
    ------
    FileError
        If it is damaged, not a model, or holds something this version does not know.
    """
    scalars, arrays = read_state(path, _KIND)
    try:
        groups = scalars["groups"]
        sharing = Sharing(
            Groups(
                tuple(groups["species"]),
                tuple(groups["classes"]),
                tuple(groups["atoms"]),
                groups["depth"],
            )
        )
        if scalars["coupling"] not in get_args(Coupling):
            raise FileError(f"{path}: this version of otf knows no coupling {scalars['coupling']}")
        settings = DescriptorSettings(**scalars["descriptor"])
        descriptor = Descriptor(np.array(sharing.groups.species), settings)
        standard = Standard(arrays["mean"], arrays["scale"], arrays["components"])
        energy_model = TensorEnergy(descriptor, sharing, standard, coupling=scalars["coupling"])
        posterior = None
        if scalars["force_noise"] is not None:
            posterior = Posterior(np.asfortranarray(arrays["factor"]), scalars["force_noise"])
        return ForceModel(
            energy_model,
            arrays["theta"],
            scalars["rank"],
            energy_model.tensors(arrays["theta"], rank=scalars["rank"]),
            scalars["reference_energy"],
            ErrorScale(
                arrays["error_total"],
                arrays["error_weight"],
                arrays["error_ratios"],
                scalars["error_level"],
            ),
            posterior,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{path}: lacks what this version of otf needs ({error}); use the version that wrote it"
        ) from error

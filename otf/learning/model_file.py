"""Reading and writing of ``model.h5``, the file of a force model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from otf.arrays import Floats
from otf.errors import FileError
from otf.io.dataclass_file import read_dataclass, write_dataclass
from otf.kernels.rows import Standard
from otf.learning.force_model import ForceModel, Posterior
from otf.learning.uncertainty import ErrorScale
from otf.model.descriptor import Descriptor, DescriptorSettings
from otf.model.sharing import Groups, Sharing
from otf.model.tensor_energy import Coupling, TensorEnergy

_KIND = "model"


@dataclass(frozen=True, eq=False)
class _Stored:
    """The fields of a model file; see :class:`ForceModel`."""

    descriptor: DescriptorSettings
    groups: Groups
    coupling: Coupling
    standard: Standard
    theta: Floats
    order: int
    reference_energy: float
    scale: ErrorScale
    posterior: Posterior | None


def write_model(path: Path, model: ForceModel) -> None:
    """Write a model to a file.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    energy_model = model.energy_model
    stored = _Stored(
        energy_model.descriptor.settings,
        energy_model.sharing.groups,
        energy_model.coupling,
        energy_model.standard,
        model.theta,
        model.order,
        model.reference_energy,
        model.scale,
        model.posterior,
    )
    write_dataclass(path, _KIND, stored)


def read_model(path: Path) -> ForceModel:
    """Read a model from its file.

    Raises
    ------
    FileError
        If it is damaged, not a model, or not supported by this version.
    """
    stored = read_dataclass(path, _KIND, _Stored)
    try:
        energy_model = TensorEnergy(
            Descriptor(np.array(stored.groups.species), stored.descriptor),
            Sharing(stored.groups),
            stored.standard,
            coupling=stored.coupling,
        )
        tensors = energy_model.tensors(stored.theta, order=stored.order)
    except ValueError as error:
        raise FileError(
            f"{path}: holds no model ({error}); use the version that wrote it"
        ) from error
    return ForceModel(
        energy_model,
        stored.theta,
        stored.order,
        tensors,
        stored.reference_energy,
        stored.scale,
        stored.posterior,
    )

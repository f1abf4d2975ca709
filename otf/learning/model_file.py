"""Reading and writing of ``model.h5``, the file of a force model."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from otf.arrays import Floats
from otf.engines.registry import load_engine, path_options
from otf.errors import FileError
from otf.io.dataclass_file import read_dataclass, write_dataclass
from otf.kernels.rows import Standard
from otf.learning.baseline import Baseline, EngineTerm, TermSettings
from otf.learning.force_model import ForceModel, Posterior
from otf.learning.prior_mean import ModelTerm
from otf.learning.uncertainty import ErrorScale
from otf.model.descriptor import Descriptor, DescriptorSettings
from otf.model.sharing import Groups, Sharing
from otf.model.tensor_energy import Coupling, TensorEnergy

_KIND = "model"


@dataclass(frozen=True)
class _StoredTerm:
    """A term of the baseline; options are JSON, with files relative to the model file."""

    kind: str
    options: str
    charge: int
    spin: int


@dataclass(frozen=True, eq=False)
class _StoredModel:
    """The fields of a model without baseline; see :class:`ForceModel`."""

    descriptor: DescriptorSettings
    groups: Groups
    coupling: Coupling
    standard: Standard
    theta: Floats
    order: int
    reference_energy: float
    scale: ErrorScale
    posterior: Posterior | None


@dataclass(frozen=True, eq=False)
class _StoredPrior:
    """A term of the baseline that is a model of an engine."""

    of: str
    model: _StoredModel


@dataclass(frozen=True, eq=False)
class _Stored(_StoredModel):
    """The fields of a model file."""

    baseline: tuple[_StoredTerm, ...] = ()
    prior_means: tuple[_StoredPrior, ...] = ()


def write_model(path: Path, model: ForceModel) -> None:
    """Write a model to a file.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    terms = model.baseline.terms
    stored = _Stored(
        **vars(_stored_model(model)),
        baseline=tuple(_stored(t.settings, path) for t in terms if isinstance(t, EngineTerm)),
        prior_means=tuple(
            _StoredPrior(t.of, _stored_model(t.model)) for t in terms if isinstance(t, ModelTerm)
        ),
    )
    write_dataclass(path, _KIND, stored)


def read_model(path: Path) -> ForceModel:
    """Read a model from its file.

    Raises
    ------
    FileError
        If it is damaged, not a model, or not supported by this version; or if it is another user's
        and has a baseline, which would run what that user named.
    """
    stored = read_dataclass(path, _KIND, _Stored)
    if stored.baseline and path.stat().st_uid not in (os.getuid(), 0):
        names = ", ".join(f"{term.kind} {term.options}" for term in stored.baseline)
        raise FileError(
            f"{path}: belongs to another user, and its baseline would run {names}; look at it, and "
            "copy the file if it may run as you"
        )
    try:
        prior_means = [ModelTerm(prior.of, _model(prior.model)) for prior in stored.prior_means]
        model = _model(stored)
    except ValueError as error:
        raise FileError(
            f"{path}: holds no model ({error}); use the version that wrote it"
        ) from error
    engines = [EngineTerm(_settings(term, path)) for term in stored.baseline]
    return replace(model, baseline=Baseline([*engines, *prior_means]))


def _stored_model(model: ForceModel) -> _StoredModel:
    energy_model = model.energy_model
    return _StoredModel(
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


def _model(stored: _StoredModel) -> ForceModel:
    energy_model = TensorEnergy(
        Descriptor(np.array(stored.groups.species), stored.descriptor),
        Sharing(stored.groups),
        stored.standard,
        coupling=stored.coupling,
    )
    return ForceModel(
        energy_model,
        stored.theta,
        stored.order,
        energy_model.tensors(stored.theta, order=stored.order),
        stored.reference_energy,
        stored.scale,
        stored.posterior,
    )


def _stored(term: TermSettings, file: Path) -> _StoredTerm:
    folder = file.absolute().parent

    def inside(path: str) -> str:
        return os.path.relpath(path, folder) if Path(path).is_relative_to(folder) else path

    options = _with_paths(term, inside)
    return _StoredTerm(term.kind, json.dumps(options), term.charge, term.spin)


def _settings(stored: _StoredTerm, file: Path) -> TermSettings:
    term = TermSettings(stored.kind, json.loads(stored.options), stored.charge, stored.spin)
    folder = file.absolute().parent
    return replace(term, options=_with_paths(term, lambda path: str(folder / path)))


def _with_paths(term: TermSettings, change: Callable[[str], str]) -> dict[str, Any]:
    """The options of a term with its files and folders changed."""
    named = path_options(load_engine(term.kind).Options)
    return {
        name: change(str(value)) if name in named and value is not None else value
        for name, value in term.options.items()
    }

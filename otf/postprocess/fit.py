"""A model fitted to labelled structures: ``otf fit`` and ``otf.fit``."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from otf.config.reader import model_of
from otf.config.schema import Model
from otf.engines.labels import Labels
from otf.errors import FileError
from otf.learning.calculator import ModelCalculator
from otf.learning.fit import Errors, Keys, errors_of, learn_all, recorded_labels
from otf.learning.trainer import Trainer
from otf.model.descriptor import displaced
from otf.runs.assemble import make_trainer
from otf.runs.baseline import make_baseline

_FEW_SAMPLES = 16
_SAMPLES = 64  # training structures for the spread of the features


def read_structures(path: Path) -> list[Atoms]:
    """Read all frames of a file that ASE supports.

    Raises
    ------
    FileError
        If it cannot be read or holds nothing.
    """
    try:
        frames = ase.io.read(path, ":")
    except Exception as error:  # ase.io raises whatever the format's reader raises
        raise FileError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    if not frames:
        raise FileError(f"{path}: holds no structures")
    return list(frames)


@dataclass(frozen=True)
class Fitted:
    """A fitted model and its errors on training and test data."""

    trainer: Trainer
    train: Errors
    test: Errors | None

    @property
    def model(self) -> ModelCalculator:
        """The model as an ASE calculator."""
        return ModelCalculator(self.trainer.force_model)


@dataclass(frozen=True)
class _Data:
    """Structures with the name of their source for messages."""

    frames: list[Atoms]
    name: str
    keys: Keys | None = None

    def labelled(self, order: Iterable[int] | None = None) -> Iterator[tuple[Atoms, Labels]]:
        """Structures with their recorded labels, in this order."""
        for i in range(len(self.frames)) if order is None else order:
            where = f"{self.name}, frame {i}"
            yield self.frames[i], recorded_labels(self.frames[i], where, self.keys)


def fit(
    frames: Iterable[Atoms] | str | Path,
    test: Iterable[Atoms] | str | Path | None = None,
    model: Model | Mapping[str, Any] = MappingProxyType({}),
    *,
    keys: Keys | None = None,
) -> Fitted:
    """Fit a model to labelled structures.

    The order of the structures does not matter: they are shuffled, so that the ones left out in
    cross-validation are representative.

    Parameters
    ----------
    frames, test
        Structures with energy and forces, or a file of them.
    model
        The ``model`` section of a configuration.
    keys
        Names of energy and forces, if they are not those of ASE.

    Raises
    ------
    FileError
        If a structure has no label, or a file cannot be read.
    ConfigError
        If a key of the model is wrong.
    """
    train = _data(frames, "frames", keys)
    order = np.random.default_rng(0).permutation(len(train.frames))
    samples = [train.frames[i] for i in order[:_SAMPLES]]
    if len(samples) < _FEW_SAMPLES:  # too few for the spread of the features
        samples = samples + [moved for atoms in samples for moved in displaced(atoms, seed=0)]
    section = model if isinstance(model, Model) else model_of(dict(model))
    trainer = make_trainer(
        section, samples, keep_blocks=_SAMPLES, baseline=make_baseline(section, samples[0])
    )
    learn_all(trainer, train.labelled(int(i) for i in order))
    force_model = trainer.force_model
    tested = None if test is None else errors_of(force_model, _data(test, "test", keys).labelled())
    return Fitted(trainer, errors_of(force_model, train.labelled()), tested)


def _data(source: Iterable[Atoms] | str | Path, name: str, keys: Keys | None) -> _Data:
    if isinstance(source, str | Path):
        return _Data(read_structures(Path(source)), str(source), keys)
    frames = list(source)
    if not frames:
        raise FileError(f"{name}: holds no structures")
    return _Data(frames, name, keys)

"""``otf fit``: a model fitted to files of labelled structures."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from otf.config.schema import Model
from otf.engines.labels import Labels
from otf.errors import FileError
from otf.learning.fit import Errors, errors_of, fit, recorded_labels
from otf.learning.trainer import Trainer
from otf.model.descriptor import displaced
from otf.runs.assemble import make_trainer

_FEW_SAMPLES = 16
_SAMPLES = 64  # training structures that show how the features vary


def read_structures(path: Path) -> list[Atoms]:
    """All frames of a file ASE can read.

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


def labelled(path: Path, frames: list[Atoms]) -> Iterator[tuple[Atoms, Labels]]:
    """Structures of a file with their recorded labels."""
    for i, atoms in enumerate(frames):
        yield atoms, recorded_labels(atoms, f"{path}, frame {i}")


@dataclass(frozen=True)
class FitReport:
    """A fitted model and its errors, on its own data and on others."""

    trainer: Trainer
    train: Errors
    test: Errors | None


def fit_file(model: Model, train: Path, test: Path | None) -> FitReport:
    """Fit a model to a file of labelled structures.

    The order of the structures does not matter: they are shuffled, so that the ones left out to
    choose the prior are a fair sample.
    """
    frames = read_structures(train)
    order = np.random.default_rng(0).permutation(len(frames))
    shuffled = [frames[i] for i in order]
    samples = shuffled[:_SAMPLES]
    if len(samples) < _FEW_SAMPLES:  # they would not show how the features vary
        samples = samples + [moved for atoms in samples for moved in displaced(atoms, seed=0)]
    trainer = make_trainer(model, samples, keep_blocks=_SAMPLES)
    fit(trainer, labelled(train, shuffled))
    model_now = trainer.force_model
    tested = None
    if test is not None:
        tested = errors_of(model_now, labelled(test, read_structures(test)))
    return FitReport(trainer, errors_of(model_now, labelled(train, frames)), tested)

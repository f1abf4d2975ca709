"""On-the-fly acceleration of ab-initio molecular dynamics with a closed-form force model.

The public interface: :class:`Run`, :class:`LearningCalculator`, :func:`open_run`, :func:`fit` and
:func:`load_model`. What is not named here may change from one minor version to the next.
"""

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otf.version import __version__

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.abc import GetPropertiesMixin

    from otf.learning.calculator import ModelCalculator
    from otf.postprocess.fit import Fitted
    from otf.runs.learning_calculator import LearningCalculator
    from otf.runs.run import Run

__all__ = ["LearningCalculator", "Run", "__version__", "fit", "load_model", "open_run"]

_CLASSES = {"LearningCalculator": "otf.runs.learning_calculator", "Run": "otf.runs.run"}


def __getattr__(name: str) -> Any:
    """Import a class at its first use, so that ``import otf`` stays quick."""
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    raise AttributeError(f"module 'otf' has no attribute '{name}'")


def open_run(directory: str | Path, engine: "GetPropertiesMixin | None" = None) -> "Run":
    """Open an existing run, to read its results or to continue it.

    Parameters
    ----------
    directory
        The run directory.
    engine
        The calculator object, if the run was started with one.

    Raises
    ------
    FileError, ConfigError, RunError
        If it is not a run, was damaged, or is one of several replicas.
    """
    from otf.runs.run import Run

    return Run.open(directory, engine)


def fit(
    frames: "Iterable[Atoms] | str | Path",
    test: "Iterable[Atoms] | str | Path | None" = None,
    **model: Any,
) -> "Fitted":
    """Fit a model to labelled structures and measure its errors.

    Parameters
    ----------
    frames, test
        Structures with energy and forces (as ASE reads them), or a file of them.
    **model
        Keys of the ``model`` section of a configuration.

    Raises
    ------
    FileError
        If a structure has no label, or a file cannot be read.
    ConfigError
        If a key of the model is wrong.
    """
    from otf.postprocess.fit import fit as fit_model

    return fit_model(frames, test, model)


def load_model(path: str | Path) -> "ModelCalculator":
    """A learned model as an ASE calculator: energy, forces, stress, predicted error per atom.

    Parameters
    ----------
    path
        A run directory, its ``model.h5``, or what ``otf fit`` wrote.

    Raises
    ------
    FileError
        If it is not a model file, or of a version this one does not support.
    """
    from otf.learning.calculator import learned

    return learned(str(path))

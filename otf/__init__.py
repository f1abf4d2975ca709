"""On-the-fly acceleration of ab-initio molecular dynamics with a closed-form force model."""

from pathlib import Path
from typing import TYPE_CHECKING

from otf.version import __version__

if TYPE_CHECKING:
    from otf.learning.calculator import ModelCalculator

__all__ = ["__version__", "load_model"]


def load_model(path: str | Path) -> "ModelCalculator":
    """A learned model as an ASE calculator: energy, forces, stress and the error of each atom.

    Parameters
    ----------
    path
        ``model.h5`` of a run, or what ``otf fit`` wrote.

    Raises
    ------
    FileError
        If it is not a model file, or of a version this one does not know.
    """
    from otf.learning.calculator import ModelCalculator

    return ModelCalculator.read(Path(path))

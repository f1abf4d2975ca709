"""A learned model and its structure, from a run directory, or from two files."""

from pathlib import Path

import ase.io
from ase import Atoms

from otf.errors import FileError
from otf.learning.force_model import ForceModel
from otf.learning.model_file import read_model
from otf.runs.directory import RunDirectory


def stored_model(path: Path, structure: Path | None) -> tuple[ForceModel, Atoms]:
    """The model of a run directory or a model file, and the structure it is for.

    Raises
    ------
    FileError
        If one of them is missing or cannot be read.
    """
    run = RunDirectory(path)
    model = run.model if path.is_dir() else path
    structure = structure or (run.structure if path.is_dir() else None)
    if structure is None:
        raise FileError(
            f"{path}: does not state the number and order of atoms; give a file with "
            "them: --structure FILE"
        )
    try:
        atoms = ase.io.read(structure)
    except Exception as error:  # ase.io raises whatever the format's reader raises
        raise FileError(f"{structure}: cannot be read as a structure ({error})") from error
    return read_model(model), atoms

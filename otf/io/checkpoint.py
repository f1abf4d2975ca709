"""``checkpoint.h5``: scalars as JSON, arrays as datasets; written aside and renamed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from otf.arrays import Floats
from otf.errors import FileError
from otf.io.durable import replace_file

_FORMAT = 1


def write_checkpoint(path: Path, scalars: Mapping[str, Any], arrays: Mapping[str, Floats]) -> None:
    """Replace the checkpoint; a kill leaves the old one or the new one.

    Parameters
    ----------
    scalars
        Anything JSON can hold (floats survive to the last bit).
    arrays
        By name.

    Raises
    ------
    FileError
        If the disk does not take it.
    """

    def write(aside: Path) -> None:
        with h5py.File(aside, "w") as file:
            file.attrs["format"] = _FORMAT
            file["scalars"] = json.dumps(scalars)
            for name, value in arrays.items():
                file[f"arrays/{name}"] = value

    try:
        replace_file(path, write)
    except OSError as error:
        raise FileError(
            f"{path}: cannot be written ({error}); make room or repair the file system, then "
            "resume the run"
        ) from error


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Scalars and arrays of a checkpoint.

    Raises
    ------
    FileError
        If it is damaged or of a format this version does not know.
    """
    try:
        with h5py.File(path, "r") as file:
            found = int(file.attrs["format"])
            if found != _FORMAT:
                raise FileError(
                    f"{path}: has format {found}, this version of otf reads {_FORMAT}; resume "
                    "with the version that wrote it"
                )
            scalars = json.loads(file["scalars"].asstr()[()])
            arrays = {name: data[()] for name, data in file["arrays"].items()}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise FileError(
            f"{path}: is damaged ({error}); restore it from a backup, or remove it and resume: "
            "the run then starts again and reuses the labels it has"
        ) from error
    return scalars, arrays

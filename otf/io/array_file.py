"""HDF5 files of scalars (as JSON) and arrays, with a checksum, replaced atomically."""

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from otf.errors import FileError
from otf.io.durable import replace_file
from otf.io.hdf5 import read_hdf5

_FORMAT = 4
_LARGEST_RATIO = 1000  # of the size of arrays to that of their file
_OR_ELSE = {
    "checkpoint": ", or start a new run",
    "model": ", or fit the labels again: `otf fit labels.extxyz --output model.h5`",
}


def write_arrays(
    path: Path, kind: str, scalars: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Write the file atomically: if the process is killed, the old or the new one is there.

    Parameters
    ----------
    kind
        Kind of the file, such as ``"checkpoint"``; checked when it is read.
    scalars
        Anything JSON can hold (floats are restored exactly).
    arrays
        Arrays by name.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    # Built in memory, since HDF5 may crash on a full disk; HDF5 needs distinct names in threads.
    name = f"{path.name}.{threading.get_ident()}"
    with h5py.File(name, "w", driver="core", backing_store=False) as file:
        file.attrs["kind"] = kind
        file.attrs["format"] = _FORMAT
        text = json.dumps(scalars)
        file.attrs["digest"] = _digest(text, arrays)
        file["scalars"] = text
        group = file.create_group("arrays")
        for name, value in arrays.items():
            group[name] = value
        file.flush()
        image = file.id.get_file_image()
    try:
        replace_file(path, lambda aside: aside.write_bytes(image))
    except OSError as error:
        raise FileError(
            f"{path}: cannot be written ({error.strerror}); make room or repair the file system, "
            "then resume the run"
        ) from error


def read_arrays(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read the scalars and arrays of a file of this kind.

    Raises
    ------
    FileError
        If it is damaged, of another kind, or of a format this version does not support.
    """
    try:
        with read_hdf5(path) as file:
            if file.attrs["kind"] != kind:
                raise FileError(f"{path}: is a {file.attrs['kind']} file, not a {kind} file")
            found = int(file.attrs["format"])
            if found != _FORMAT:
                raise FileError(
                    f"{path}: has format {found}, this version of otf reads {_FORMAT}; use the "
                    f"version that wrote it{_OR_ELSE.get(kind, '')}"
                )
            text = file["scalars"].asstr()[()]
            declared = sum(data.nbytes for data in file["arrays"].values())
            if declared > _LARGEST_RATIO * path.stat().st_size:
                raise ValueError(f"it declares {declared:.2g} bytes, more than it can hold")
            arrays = {name: data[()] for name, data in file["arrays"].items()}
            if file.attrs["digest"] != _digest(text, arrays):
                raise ValueError("its content does not match its checksum")
            scalars: dict[str, Any] = json.loads(text)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise FileError(
            f"{path}: is damaged or not a {kind} file ({error}); restore it from a backup"
            + (
                ", or remove it and resume: the run then restarts and reuses the stored labels"
                if kind == "checkpoint"
                else ""
            )
        ) from error
    return scalars, arrays


def _digest(text: str, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Checksum of the whole content: HDF5 itself would not notice a flipped bit."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {value.dtype.str} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()

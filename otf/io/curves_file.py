"""Writer of curves as text, CSV and HDF5."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from otf.arrays import Floats
from otf.errors import FileError
from otf.io.durable import replace_file
from otf.io.hdf5 import read_hdf5, written_hdf5

Columns = Mapping[str, Floats]


_ENDINGS = (".csv", ".txt", ".dat", ".h5")


def as_text(columns: Columns, comments: list[str], *, separator: str = " ") -> Iterator[str]:
    """Lines of a table: comments, column names, then a row for each point."""
    yield from (f"# {line}" for line in comments)
    names = separator.join(columns)
    yield names if separator == "," else f"# {names}"
    for row in np.column_stack(list(columns.values())):
        yield separator.join(f"{x:.8g}" for x in row)


def _is_ours(path: Path) -> bool:
    """Whether an HDF5 file was written by :func:`write_curves`."""
    try:
        with read_hdf5(path) as file:
            return "comments" in file.attrs
    except OSError:
        return False


def write_curves(path: Path, columns: Columns, comments: list[str]) -> None:
    """Write curves as ``.csv``, ``.h5``, or plain text (``.txt``, ``.dat``).

    Raises
    ------
    FileError
        If the ending is not supported, or the file cannot be written.
    """
    if path.suffix not in _ENDINGS:
        raise FileError(
            f"{path}: unknown file type; tables end in {', '.join(_ENDINGS)}, pictures in .svg, "
            ".png, .pdf"
        )

    if path.suffix == ".h5" and path.exists() and not _is_ours(path):
        raise FileError(f"{path}: already exists and holds no curves; choose another name")

    def write(aside: Path) -> None:
        if path.suffix == ".h5":
            with written_hdf5(aside, "w") as file:
                file.attrs["comments"] = comments
                for name, values in columns.items():
                    file[name] = values
            return
        separator = "," if path.suffix == ".csv" else " "
        lines = as_text(columns, comments, separator=separator)
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")

    try:
        replace_file(path, write)
    except OSError as error:
        raise FileError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place"
        ) from error

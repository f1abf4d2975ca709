"""Making sure that what was written is on the disk."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def sync(stream: IO[Any]) -> None:
    """Flush a stream and wait until the disk has it."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory (new files, renames) are on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file aside, sync it, and rename it over ``path``: readers see the old or the new one.

    Parameters
    ----------
    path
        Final name.
    write
        Called with the temporary name; must leave a complete, closed file there.
    """
    aside = path.with_name(path.name + ".new")
    write(aside)
    with aside.open("rb") as stream:
        os.fsync(stream.fileno())
    aside.replace(path)
    sync_directory(path.parent)

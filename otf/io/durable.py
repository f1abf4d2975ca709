"""Making sure that what was written is on the disk."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from otf.errors import FileError


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


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
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


@contextmanager
def sole_owner(path: Path) -> Iterator[None]:
    """Hold a lock file while the context lasts; the system frees it when the process dies.

    Raises
    ------
    FileError
        If another process holds it.
    """
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FileError(
                f"{path.parent}: another otf is running here; wait for it, or stop it first"
            ) from error
        yield

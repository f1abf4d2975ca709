"""Making sure that what was written is on the disk."""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from otf.errors import FileError

_LOG = logging.getLogger("otf.durable")


def append(stream: IO[bytes], data: bytes) -> None:
    """Write to an unbuffered stream and wait until the disk has it.

    Unbuffered, for what a full disk did not take must not be tried once more when it is closed.

    Raises
    ------
    OSError
        If the disk does not take it; a part of it may be there.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
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
    try:
        write(aside)
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)  # what is half written on a full disk is in the way
        raise
    sync_directory(path.parent)


def reserve(path: Path, size: int) -> None:
    """Make sure that a file can grow to so many bytes.

    HDF5 may crash where the disk is full; asked before, the system says so.

    Raises
    ------
    OSError
        If there is no room.
    """
    with path.open("ab") as stream:
        os.posix_fallocate(stream.fileno(), 0, size)


def is_owned(path: Path) -> bool:
    """Whether a process holds this lock file now; nobody does where there are no locks."""
    if not path.exists():
        return False
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


@contextmanager
def sole_owner(path: Path) -> Iterator[None]:
    """Hold a lock file while the context lasts; the system frees it when the process dies.

    Some file systems of clusters (Lustre without the mount option flock) have no locks; there it is
    the user who must see to it, and is told so.

    Raises
    ------
    FileError
        If another process holds it.
    """
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileError(
                f"{path.parent}: another otf is running here; wait for it, or stop it first"
            ) from error
        except OSError as error:
            _LOG.warning(
                "%s: this file system has no locks (%s): never run two otf here at once",
                path.parent,
                error.strerror,
            )
        yield

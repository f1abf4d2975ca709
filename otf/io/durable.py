"""Durable and atomic writing of files, and lock files."""

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from otf.errors import FileError

UNFINISHED = ".new"
"""Suffix of files that are being written."""

_LOG = logging.getLogger("otf.durable")


def append(stream: IO[bytes], data: bytes) -> None:
    """Write to an unbuffered stream and wait until the data are on the disk.

    A buffered stream would retry a write that failed on a full disk when it is closed.

    Raises
    ------
    OSError
        If the write fails; part of the data may be in the file.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
    os.fsync(stream.fileno())


def sync_directory(directory: Path) -> None:
    """Wait until the entries of a directory (new files, renames) are on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a file atomically: write a temporary file, sync it, and rename it to ``path``.

    The temporary file is made anew under a name of this process; no symbolic link is followed.

    Parameters
    ----------
    path
        Final name.
    write
        Called with the temporary name; must leave a complete, closed file there.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}{UNFINISHED}")
    aside.unlink(missing_ok=True)  # of a process that was killed and had the same number
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        write(aside)
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)  # an incomplete file would take space on a full disk
        raise
    sync_directory(path.parent)


def no_link(name: str, flags: int) -> int:
    """Opener for :func:`open` that does not follow a symbolic link.

    Raises
    ------
    FileError
        If the name is one.
    """
    try:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise FileError(
            f"{name}: is a symbolic link, and otf does not write through one; remove it"
        ) from error


def remove_unfinished(files: Iterable[Path]) -> None:
    """Remove what killed processes left of files that this process alone writes."""
    for file in files:
        for path in file.parent.glob(f"{file.name}.*{UNFINISHED}"):
            path.unlink(missing_ok=True)


def reserve(path: Path, size: int) -> None:
    """Allocate disk space for a file of the given size, in bytes.

    HDF5 may crash on a full disk; allocating the space first raises an error instead.

    Raises
    ------
    OSError
        If there is not enough space.
    """
    with path.open("ab") as stream:
        os.posix_fallocate(stream.fileno(), 0, size)


def is_owned(path: Path) -> bool:
    """Whether a process holds this lock file; False on a file system without locks."""
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
    """Hold a lock file while the context lasts; the system releases it when the process ends.

    Some cluster file systems (Lustre without the mount option flock) have no locks; there only a
    warning is logged.

    Raises
    ------
    FileError
        If another process holds it.
    """
    with os.fdopen(no_link(str(path), os.O_WRONLY | os.O_CREAT), "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileError(
                f"{path.parent}: another otf is running here; wait for it, or stop it first"
            ) from error
        except OSError as error:
            _LOG.warning(
                "%s: this file system has no locks (%s): never run two otf processes here at once",
                path.parent,
                error.strerror,
            )
        yield

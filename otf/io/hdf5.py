"""HDF5 files through files of Python.

HDF5 crashes at the end of the process if a write has failed in it. So it writes to a file
that never fails, and the first error is raised when the file is closed. Nor does it lock such
files: some file systems have no locks, and a run has its own.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py


class _NeverFails(io.FileIO):
    """A file that keeps the first error of a write instead of raising it."""

    error: OSError | None = None

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        """Write all of the data."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Change the size."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def written_hdf5(path: Path, mode: str) -> Iterator[h5py.File]:
    """An HDF5 file to write to.

    Parameters
    ----------
    mode
        ``w`` for a new file, ``r+`` for an existing one.

    Raises
    ------
    OSError
        If anything could not be written.
    """
    with _NeverFails(path, "w+b" if mode == "w" else "r+b") as stream:
        with h5py.File(stream, mode) as file:
            yield file
        if stream.error is not None:
            raise stream.error


@contextmanager
def read_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to read, which may be open elsewhere.

    Raises
    ------
    OSError
        If it does not exist or is no HDF5 file.
    """
    with path.open("rb", buffering=0) as stream, h5py.File(stream, "r") as file:
        yield file

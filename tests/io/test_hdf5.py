"""HDF5 files on disks that fail while they are written."""

import resource
import subprocess
import sys

import h5py
import numpy as np
import pytest

from otf.io.hdf5 import written_hdf5

WRITING = """
import numpy, sys
from pathlib import Path
from otf.io.hdf5 import written_hdf5
try:
    with written_hdf5(Path(sys.argv[1]), sys.argv[2]) as file:
        for i in range(50):
            file[f"new{i}"] = numpy.ones(10000)
except OSError as error:
    print(error.strerror)
    sys.exit(3)
"""


def test_what_is_written_is_that_of_hdf5_itself(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as plain, written_hdf5(tmp_path / "b.h5", "w") as file:
        for one in (plain, file):
            one.create_dataset("x", (0, 3), float, maxshape=(None, 3), chunks=(10, 3))
    for mode in ("r+", "r+"):
        with (
            h5py.File(tmp_path / "a.h5", mode) as plain,
            written_hdf5(tmp_path / "b.h5", mode) as file,
        ):
            for one in (plain, file):
                n = len(one["x"])
                one["x"].resize(n + 25, axis=0)
                one["x"][n:] = np.arange(75.0).reshape(25, 3)
    with h5py.File(tmp_path / "a.h5") as plain, h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_array_equal(plain["x"], file["x"])
        assert plain["x"].shape == (50, 3)


@pytest.mark.parametrize("mode", ["w", "r+"])
@pytest.mark.parametrize("largest_kB", [0, 8, 900])
def test_a_write_that_fails_raises_an_error_and_crashes_nothing(tmp_path, mode, largest_kB):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["old"] = np.ones(100)

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_kB << 10, largest_kB << 10))

    done = subprocess.run(
        [sys.executable, "-c", WRITING, str(path), mode],
        preexec_fn=little_room,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout == "File too large\n"

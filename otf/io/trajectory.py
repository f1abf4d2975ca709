"""Trajectory files: ``trajectory.h5``, and ``trajectory.tail`` with the latest frames.

A kill while an HDF5 file is extended can damage the data it already holds; in a long run this does
happen. Therefore the HDF5 file is only ever replaced as a whole. Frames are appended to a flat file
of float64 records, the tail, and synced; from time to time, and at the end, they are merged into a
copy of the HDF5 file that replaces the old one. The tail is merged when it reaches a quarter of the
size of the HDF5 file, so that copying costs a constant factor. Readers see both.
"""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.errors import FileError
from otf.io import durable, h5md
from otf.io.committed import Frame, Trajectory
from otf.io.durable import replace_file, reserve
from otf.io.hdf5 import read_hdf5, written_hdf5
from otf.units import FS, KJ_PER_MOL

_FOLD_BYTES = 1 << 18
_OVERHEAD = 2  # size of frames in HDF5 over that in the tail: chunks, indices, a margin
_SCALARS = (
    "step", "time", "potential_energy", "kinetic_energy", "temperature", "source", "labels",
    "conserved_energy", "energy_discontinuity", "heat", "work", "barostat", "pressure", "stage",
)  # fmt: skip
_DAMAGE = (OSError, KeyError, RuntimeError, TypeError, ValueError)  # raised by h5py on damage


class TrajectoryWriter:
    """Writer that appends frames to the trajectory of a run.

    Parameters
    ----------
    path
        ``trajectory.h5``.
    atoms
        Species, masses, cell and periodicity.
    keep
        Number of existing frames to keep; the rest was never committed.
    stages
        Names of the stages of the run.

    Raises
    ------
    FileError
        If a file is damaged, or holds fewer frames than ``keep``.
    """

    def __init__(
        self, path: Path, atoms: Atoms, *, keep: int = 0, stages: Sequence[str] = ("run",)
    ) -> None:
        self.path = path
        self._stages = tuple(stages)
        self._atoms = atoms.copy()
        self._masses: Floats = atoms.get_masses()
        self._tail = _tail_of(path)
        self.n_frames = keep
        try:
            if keep == 0:
                path.unlink(missing_ok=True)
                self._tail.unlink(missing_ok=True)
            else:
                self._recover(keep)
            self._stream = self._tail.open("ab", buffering=0)
            if not path.exists():  # readers need the system to read frames in the tail
                replace_file(path, self._copy)
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:  # not raised by HDF5
                raise FileError(_not_written(path, error)) from error
            raise FileError(
                f"{path}: cannot be used ({error}); restore it from a backup, or remove "
                "checkpoint.h5 and resume: the run is then repeated with the stored labels"
            ) from error

    def append(self, frames: Sequence[Frame]) -> None:
        """Write frames and wait until they are on the disk.

        Raises
        ------
        FileError
            If they cannot be written.
        """
        if not frames:
            return
        try:
            durable.append(self._stream, np.array([self._record(f) for f in frames]).tobytes())
            self.n_frames += len(frames)
            size = self.path.stat().st_size if self.path.exists() else 0
            if self._tail.stat().st_size > max(_FOLD_BYTES, size // 4):
                self._fold()
        except OSError as error:
            raise FileError(_not_written(self.path, error)) from error

    def close(self) -> None:
        """Merge the tail into the HDF5 file and remove it.

        Raises
        ------
        FileError
            If the HDF5 file cannot be written; the tail is then kept.
        """
        try:
            self._fold()
        except _DAMAGE as error:
            raise FileError(
                f"{self.path}: cannot be written ({error}); the latest frames stay in "
                f"{self._tail.name}: make room or restore the file, then resume the run"
            ) from error
        finally:
            self._stream.close()
        self._tail.unlink(missing_ok=True)

    def _fold(self) -> None:
        """Replace the HDF5 file by one that includes the tail; then empty the tail."""
        records = _read_tail(self._tail, len(self._atoms))

        def write(aside: Path) -> None:
            self._copy(aside)
            reserve(aside, aside.stat().st_size + _OVERHEAD * records.nbytes + _FOLD_BYTES)
            with written_hdf5(aside, "r+") as file:
                h5md.append(file, _series(_newer(records, file)))

        replace_file(self.path, write)
        self._stream.truncate(0)

    def _copy(self, aside: Path) -> None:
        if self.path.exists():
            shutil.copyfile(self.path, aside)
            return
        aside.touch()
        reserve(aside, _FOLD_BYTES)
        with written_hdf5(aside, "w") as file:
            h5md.create(file, self._atoms, self._stages)

    def _recover(self, keep: int) -> None:
        """Truncate both files to the ``keep`` frames of the checkpoint."""
        folded = 0
        records = _read_tail(self._tail, len(self._atoms))
        if self.path.exists():
            with read_hdf5(self.path) as file:
                folded = h5md.n_frames(file)
                records = _newer(records, file)
        if folded + len(records) < keep:
            raise ValueError(f"{folded + len(records)} frames, the checkpoint was made with {keep}")
        if folded > keep:

            def cut(aside: Path) -> None:
                self._copy(aside)
                with written_hdf5(aside, "r+") as file:
                    h5md.resize(file, keep)

            replace_file(self.path, cut)
            folded = keep
        kept = records[: keep - folded].tobytes()
        replace_file(self._tail, lambda aside: aside.write_bytes(kept))

    def _record(self, f: Frame) -> Floats:
        velocities = f.momenta * (FS / self._masses[:, None])
        scalars = (
            f.step, f.time_fs, f.potential_energy, f.kinetic_energy, f.temperature_K, f.source,
            f.labels, f.conserved_energy, f.energy_discontinuity, f.heat, f.work, f.barostat,
            f.pressure_GPa, f.stage,
        )  # fmt: skip
        arrays = (f.cell, f.positions, velocities, f.forces / KJ_PER_MOL)
        return np.concatenate([scalars, *(a.ravel() for a in arrays)])


def _not_written(path: Path, error: OSError) -> str:
    return (
        f"{path}: cannot be written ({error.strerror}); make room or repair the file system, then "
        "resume the run"
    )


def _tail_of(path: Path) -> Path:
    return path.with_suffix(".tail")


def _read_tail(path: Path, n_atoms: int) -> Floats:
    """Complete records of the tail; an incomplete last one is left out."""
    width = len(_SCALARS) + 9 + 9 * n_atoms
    if not path.exists():
        return np.zeros((0, width))
    data = path.read_bytes()
    complete = len(data) // (8 * width)
    return np.frombuffer(data[: complete * 8 * width]).reshape(complete, width)


def _newer(records: Floats, file: h5py.File) -> Floats:
    """Records that are not in the file: a kill may occur between merging and emptying the tail."""
    folded = h5md.n_frames(file)
    last = file[h5md.group_of("position") + "/step"][folded - 1] if folded else -1
    return records[records[:, 0] > last]


def _series(records: Floats) -> dict[str, npt.NDArray[Any]]:
    """Columns of the records by their H5MD names."""
    start = len(_SCALARS)
    n = (records.shape[1] - start - 9) // 9
    series: dict[str, npt.NDArray[Any]] = {
        name: records[:, column] for column, name in enumerate(_SCALARS)
    }
    series["edges"] = records[:, start : start + 9].reshape(-1, 3, 3)
    vectors = records[:, start + 9 :].reshape(-1, 3, n, 3)
    for i, name in enumerate(("position", "velocity", "force")):
        series[name] = vectors[:, i]
    return series


def read_trajectory(path: Path, rows: Ints | None = None, *, forces: bool = True) -> Trajectory:
    """Read committed frames, also of a run in progress.

    Parameters
    ----------
    rows
        Indices of the frames, increasing; all by default.
    forces
        Whether to read the forces, a third of the file.

    Raises
    ------
    FileError
        If the file does not exist, is damaged, or is not a trajectory of otf.
    """
    names = h5md.UNITS.keys() - (set() if forces else {"force"})
    atoms, series, stages = _read(path, names, rows)
    for name in names & {"velocity", "force"}:  # an exported file may lack them
        series.setdefault(name, np.full_like(series["position"], np.nan))
    if forces:
        series["force"] *= KJ_PER_MOL
    return Trajectory(atoms, stages, series)


def read_scalars(path: Path) -> Trajectory:
    """Read only the scalar quantities of all committed frames.

    Raises
    ------
    FileError
        As :func:`read_trajectory`.
    """
    atoms, series, stages = _read(path, _SCALARS)
    return Trajectory(atoms, stages, series)


def _read(
    path: Path, names: Collection[str], rows: Ints | None = None
) -> tuple[Atoms, dict[str, npt.NDArray[Any]], tuple[str, ...]]:
    """The system, these series (including frames in the tail), and the names of the stages."""
    try:
        with read_hdf5(path) as file:
            if h5md.group_of("jumps") in file:
                raise FileError(
                    f"{path}: was written by otf before 0.1; export it with that version"
                )
            atoms, stages = h5md.read_system(file), h5md.stage_names(file)
            newer = _newer(_read_tail(_tail_of(path), len(atoms)), file)
            folded = None
            if rows is not None:
                n = h5md.n_frames(file)
                folded, newer = rows[rows < n], newer[rows[rows >= n] - n]
            series, tail = h5md.read_series(file, names, folded), _series(newer)
    except FileNotFoundError as error:
        raise FileError(f"{path}: does not exist; a run writes it after its first steps") from error
    except _DAMAGE as error:
        raise FileError(f"{path}: is damaged or not a trajectory of otf ({error})") from error
    for name in _SCALARS:  # exported parts lack some of them
        if name in names and name not in series:
            series[name] = np.full(len(series["step"]), 0.0 if name == "stage" else np.nan)
    whole = {name: np.concatenate([value, tail[name]]) for name, value in series.items()}
    return atoms, whole, stages

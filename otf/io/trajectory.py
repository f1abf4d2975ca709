"""``trajectory.h5``, the committed frames, and ``trajectory.tail``, the latest of them.

An HDF5 file that is killed while it grows can be damaged in what it already held: the window is a
few writes wide, and a long run meets it. So the HDF5 file is only ever replaced whole. Frames are
appended to a flat file of float64 records and synced; now and then, and at the end, they are folded
into a copy of the HDF5 file that takes the place of the old one. The tail is folded when it has
grown to a quarter of the HDF5 file, so that copying costs a constant factor. Readers see both.
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
from otf.units import FS, KJ_PER_MOL

_FOLD_BYTES = 1 << 18
_OVERHEAD = 2  # of frames in HDF5 over those in the tail, with a margin: chunks, indices
_SCALARS = (
    "step", "time", "potential_energy", "kinetic_energy", "temperature", "source", "labels",
    "conserved_energy", "energy_discontinuity", "heat", "work", "barostat", "pressure", "stage",
)  # fmt: skip
_DAMAGE = (OSError, KeyError, RuntimeError, TypeError, ValueError)  # what h5py raises for damage


class TrajectoryWriter:
    """Appends frames to a run's trajectory.

    Parameters
    ----------
    path
        ``trajectory.h5``.
    atoms
        Species, masses, cell and periodicity.
    keep
        Frames to keep of what is there; the rest was never committed.
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
            if not path.exists():  # from now on readers find the system, and frames in the tail
                replace_file(path, self._copy)
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:  # not what HDF5 raises
                raise FileError(_not_written(path, error)) from error
            raise FileError(
                f"{path}: cannot be used ({error}); restore it from a backup, or remove "
                "checkpoint.h5 and resume: the run is then repeated with the labels it has"
            ) from error

    def append(self, frames: Sequence[Frame]) -> None:
        """Write frames and wait until the disk has them.

        Raises
        ------
        FileError
            If the disk does not take them.
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
        """Fold what is left into the HDF5 file.

        Raises
        ------
        FileError
            If the HDF5 file does not take it; the tail keeps it.
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
        """Replace the HDF5 file by one that holds the tail, too; then empty the tail."""
        records = _read_tail(self._tail, len(self._atoms))

        def write(aside: Path) -> None:
            self._copy(aside)
            reserve(aside, aside.stat().st_size + _OVERHEAD * records.nbytes + _FOLD_BYTES)
            with h5py.File(aside, "r+") as file:
                h5md.append(file, _series(_newer(records, file)))

        replace_file(self.path, write)
        self._stream.truncate(0)

    def _copy(self, aside: Path) -> None:
        if self.path.exists():
            shutil.copyfile(self.path, aside)
            return
        aside.touch()
        reserve(aside, _FOLD_BYTES)
        with h5py.File(aside, "w") as file:
            h5md.create(file, self._atoms, self._stages)

    def _recover(self, keep: int) -> None:
        """Cut both files to ``keep`` frames: those of a checkpoint."""
        folded = 0
        records = _read_tail(self._tail, len(self._atoms))
        if self.path.exists():
            with h5py.File(self.path, "r") as file:
                folded = h5md.n_frames(file)
                records = _newer(records, file)
        if folded + len(records) < keep:
            raise ValueError(f"{folded + len(records)} frames, the checkpoint was made with {keep}")
        if folded > keep:

            def cut(aside: Path) -> None:
                self._copy(aside)
                with h5py.File(aside, "r+") as file:
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
    """Complete records of the tail; a last one that was cut short is left out."""
    width = len(_SCALARS) + 9 + 9 * n_atoms
    if not path.exists():
        return np.zeros((0, width))
    data = path.read_bytes()
    complete = len(data) // (8 * width)
    return np.frombuffer(data[: complete * 8 * width]).reshape(complete, width)


def _newer(records: Floats, file: h5py.File) -> Floats:
    """Records that are not in the file: a kill may come between folding and emptying the tail."""
    folded = h5md.n_frames(file)
    last = file[h5md.group_of("position") + "/step"][folded - 1] if folded else -1
    return records[records[:, 0] > last]


def _series(records: Floats) -> dict[str, npt.NDArray[Any]]:
    """Columns of the records by their names in H5MD."""
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
    """Committed frames, also of a run in progress.

    Parameters
    ----------
    rows
        Which of them, increasing; all by default.
    forces
        Whether they are wanted: they are a third of the file.

    Raises
    ------
    FileError
        If there are none, or the file is damaged or not ours.
    """
    names = h5md.UNITS.keys() - (set() if forces else {"force"})
    atoms, series, stages = _read(path, names, rows)
    for name in names & {"velocity", "force"}:  # which an exported part may lack
        series.setdefault(name, np.full_like(series["position"], np.nan))
    if forces:
        series["force"] *= KJ_PER_MOL
    return Trajectory(atoms, stages, series)


def read_scalars(path: Path) -> Trajectory:
    """All committed frames without their vectors: what is one number a frame, and no more.

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
    """The system, these series (frames that are still in the tail included), names of stages."""
    try:
        with h5py.File(path, "r") as file:
            atoms, stages = h5md.read_system(file), h5md.stage_names(file)
            newer = _newer(_read_tail(_tail_of(path), len(atoms)), file)
            folded = None
            if rows is not None:
                n = h5md.n_frames(file)
                folded, newer = rows[rows < n], newer[rows[rows >= n] - n]
            series, tail = h5md.read_series(file, names, folded), _series(newer)
    except FileNotFoundError as error:
        raise FileError(f"{path}: is not there; a run writes it after its first steps") from error
    except _DAMAGE as error:
        raise FileError(f"{path}: is damaged or not a trajectory of otf ({error})") from error
    for name in _SCALARS:  # what older files do not have
        if name in names and name not in series:
            series[name] = np.full(len(series["step"]), 0.0 if name == "stage" else np.nan)
    whole = {name: np.concatenate([value, tail[name]]) for name, value in series.items()}
    return atoms, whole, stages

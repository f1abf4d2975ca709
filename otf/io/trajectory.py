"""``trajectory.h5``: the committed frames in H5MD (https://www.nongnu.org/h5md/h5md.html).

Flushed after every committed segment with HDF5's default format, which opens after a kill with all
that was flushed; whatever a killed run wrote beyond its checkpoint is cut when it is resumed.
Units are attributes of the data: Angstrom, fs, eV, K, and for forces kJ/mol/Angstrom, because
MDAnalysis opens no file whose forces are in eV.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.errors import FileError
from otf.units import FS, KJ_PER_MOL
from otf.version import __version__

ENGINE, MODEL = 0, 1
"""Values of ``observables/source``: which of the two drove a frame."""

_EDGES = "particles/all/box/edges"
_CHUNK_BYTES = 1 << 16
_SERIES = {
    "particles/all/position": "Angstrom",
    "particles/all/velocity": "Angstrom fs-1",
    "particles/all/force": "kJ mol-1 Angstrom-1",
    "observables/potential_energy": "eV",
    "observables/kinetic_energy": "eV",
    "observables/temperature": "K",
    "observables/source": None,
    "observables/labels": None,
}


@dataclass(frozen=True, eq=False)
class Frame:
    """One committed step.

    Attributes
    ----------
    step, time_fs
        Place in the run.
    cell
        (3, 3), Angstrom; zeros where there is none.
    positions, momenta, forces
        (N, 3) in ASE units.
    potential_energy, kinetic_energy
        eV, of whichever drove the frame.
    temperature_K
        Over the degrees of freedom that hold energy.
    source
        :data:`ENGINE` or :data:`MODEL`.
    labels
        Labels learned when the frame was committed: the version of the model.
    """

    step: int
    time_fs: float
    cell: Floats
    positions: Floats
    momenta: Floats
    forces: Floats
    potential_energy: float
    kinetic_energy: float
    temperature_K: float
    source: int
    labels: int


class TrajectoryWriter:
    """Appends frames to a run's trajectory.

    Parameters
    ----------
    path
        ``trajectory.h5``, created when it is not there.
    atoms
        Species, masses, cell and periodicity, which are constant.
    keep
        Frames to keep of what is there; the rest was never committed.

    Raises
    ------
    FileError
        If the file cannot be opened or holds fewer frames than ``keep``.
    """

    def __init__(self, path: Path, atoms: Atoms, *, keep: int = 0) -> None:
        self.path = path
        self._masses: Floats = atoms.get_masses()
        try:
            if keep == 0:
                path.unlink(missing_ok=True)
                self._file = h5py.File(path, "x")
                _create(self._file, atoms)
            else:
                self._file = h5py.File(path, "r+")
                self._cut(keep)
        except (OSError, KeyError) as error:
            raise FileError(
                f"{path}: cannot be opened ({error}); restore it from a backup, or start the run "
                "in a new directory"
            ) from error
        self.n_frames = keep

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def append(self, frames: Sequence[Frame]) -> None:
        """Write frames and flush; they are safe from a kill when this returns.

        Raises
        ------
        FileError
            If the disk does not take them.
        """
        if not frames:
            return
        velocity_unit = FS / self._masses[:, None]
        series = {
            "particles/all/position": np.array([f.positions for f in frames]),
            "particles/all/velocity": np.array([f.momenta * velocity_unit for f in frames]),
            "particles/all/force": np.array([f.forces for f in frames]) / KJ_PER_MOL,
            "observables/potential_energy": np.array([f.potential_energy for f in frames]),
            "observables/kinetic_energy": np.array([f.kinetic_energy for f in frames]),
            "observables/temperature": np.array([f.temperature_K for f in frames]),
            "observables/source": np.array([f.source for f in frames], dtype=np.int8),
            "observables/labels": np.array([f.labels for f in frames], dtype=np.int32),
        }
        step = np.array([f.step for f in frames], dtype=np.int64)
        time = np.array([f.time_fs for f in frames])
        try:
            for name, value in series.items():
                _extend(self._file[name + "/value"], self.n_frames, value)
            _extend(
                self._file["particles/all/species/value"], self.n_frames, self._species(len(step))
            )
            _extend(self._file["particles/all/position/step"], self.n_frames, step)
            _extend(self._file["particles/all/position/time"], self.n_frames, time)
            if _EDGES in self._file:
                cells = np.array([f.cell for f in frames])
                _extend(self._file[_EDGES + "/value"], self.n_frames, cells)
            self.n_frames += len(step)
            self._file.flush()
        except OSError as error:
            raise FileError(
                f"{self.path}: cannot be written ({error}); make room or repair the file system, "
                "then resume the run"
            ) from error

    def _species(self, n: int) -> Ints:
        numbers: Ints = self._file["particles/all/species"].attrs["numbers"]
        return np.tile(numbers, (n, 1))

    def _cut(self, keep: int) -> None:
        growing = [self._file[name + "/value"] for name in (*_SERIES, "particles/all/species")]
        growing += [self._file["particles/all/position/" + axis] for axis in ("step", "time")]
        if _EDGES in self._file:
            growing.append(self._file[_EDGES + "/value"])
        if min(len(d) for d in growing) < keep:
            raise FileError(
                f"{self.path}: holds fewer frames than the checkpoint ({keep}) was made with; "
                "restore it from a backup, or start the run in a new directory"
            )
        for dataset in growing:
            dataset.resize(keep, axis=0)


def read_trajectory(path: Path) -> "Trajectory":
    """Open a trajectory for reading.

    Raises
    ------
    FileError
        If there is none or it is not one of ours.
    """
    try:
        with h5py.File(path, "r") as file:
            data = {name: file[name + "/value"][:] for name in _SERIES}
            step = file["particles/all/position/step"][:]
            n = min(len(step), *(len(v) for v in data.values()))
            atoms = Atoms(
                file["particles/all/species"].attrs["numbers"],
                cell=file["particles/all/box"].attrs["cell"],
                pbc=[
                    b == "periodic" for b in file["particles/all/box"].attrs["boundary"].astype(str)
                ],
            )
            atoms.set_masses(file["particles/all/mass"][:])
            time = file["particles/all/position/time"][:n]
    except (OSError, KeyError, TypeError) as error:
        raise FileError(f"{path}: is not a trajectory of otf ({error})") from error
    return Trajectory(atoms, step[:n], time, {k: v[:n] for k, v in data.items()})


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of a run.

    Attributes
    ----------
    atoms
        Species, masses, cell and periodicity; its positions mean nothing.
    step, time_fs
        (frames,).
    """

    atoms: Atoms
    step: Ints
    time_fs: Floats
    _data: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.step)

    @property
    def positions(self) -> Floats:
        """(frames, N, 3), Angstrom, not wrapped."""
        return self._data["particles/all/position"]

    @property
    def velocities(self) -> Floats:
        """(frames, N, 3), Angstrom/fs."""
        return self._data["particles/all/velocity"]

    @property
    def forces(self) -> Floats:
        """(frames, N, 3), eV/Angstrom."""
        return self._data["particles/all/force"] * KJ_PER_MOL

    @property
    def potential_energy(self) -> Floats:
        """(frames,), eV."""
        return self._data["observables/potential_energy"]

    @property
    def kinetic_energy(self) -> Floats:
        """(frames,), eV."""
        return self._data["observables/kinetic_energy"]

    @property
    def temperature(self) -> Floats:
        """(frames,), K."""
        return self._data["observables/temperature"]

    @property
    def source(self) -> Ints:
        """(frames,), :data:`ENGINE` or :data:`MODEL`."""
        return self._data["observables/source"].astype(np.int64)

    def frame(self, i: int) -> Atoms:
        """Frame i as an ase.Atoms with momenta."""
        atoms = self.atoms.copy()
        atoms.positions[:] = self.positions[i]
        atoms.set_velocities(self.velocities[i] / FS)
        return atoms


def _extend(dataset: h5py.Dataset, start: int, values: Floats | Ints) -> None:
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values


def _create(file: h5py.File, atoms: Atoms) -> None:
    """The H5MD skeleton: fixed elements, and one empty series for each quantity."""
    n = len(atoms)
    h5md = file.create_group("h5md")
    h5md.attrs["version"] = np.array([1, 1])
    h5md.create_group("author").attrs["name"] = "otf"
    creator = h5md.create_group("creator")
    creator.attrs["name"] = "otf"
    creator.attrs["version"] = __version__
    particles = file.create_group("particles/all")
    particles["mass"] = atoms.get_masses()
    box = particles.create_group("box")
    box.attrs["dimension"] = 3
    box.attrs["boundary"] = np.array(
        ["periodic" if p else "none" for p in atoms.pbc], dtype=h5py.string_dtype()
    )
    box.attrs["cell"] = atoms.cell.array
    step = time = None
    for name, unit in _SERIES.items():
        vector = name.startswith("particles/")
        kind = {"observables/source": np.int8, "observables/labels": np.int32}.get(name, np.float64)
        group = file.create_group(name)
        value = _series(group, "value", (n, 3) if vector else (), kind)
        if unit is not None:
            value.attrs["unit"] = unit
        if step is None or time is None:
            step, time = _series(group, "step", (), np.int64), _series(group, "time", (), float)
            time.attrs["unit"] = "fs"
        else:  # all series share one axis, as H5MD allows by hard links
            group["step"], group["time"] = step, time
    if atoms.cell.rank == 3:
        edges = file.create_group(_EDGES)  # at every frame: MDAnalysis reads no fixed box
        _series(edges, "value", (3, 3), np.float64).attrs["unit"] = "Angstrom"
        edges["step"], edges["time"] = step, time
    species = particles.create_group("species")
    species.attrs["numbers"] = atoms.numbers
    _series(species, "value", (n,), np.int32)
    species["step"], species["time"] = step, time


def _series(group: h5py.Group, name: str, shape: tuple[int, ...], kind: type) -> h5py.Dataset:
    item = np.dtype(kind).itemsize * int(np.prod(shape))
    rows = max(1, min(1024, _CHUNK_BYTES // item))
    return group.create_dataset(
        name, shape=(0, *shape), maxshape=(None, *shape), chunks=(rows, *shape), dtype=kind
    )

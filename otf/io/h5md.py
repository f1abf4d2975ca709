"""H5MD files (https://www.nongnu.org/h5md/h5md.html): layout, units, and appending of frames."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.version import __version__

Series = Mapping[str, npt.NDArray[Any]]
"""Arrays with one row per frame, by the names in :data:`UNITS` plus ``step`` and ``time``."""

UNITS = {
    "position": "Angstrom",
    "velocity": "Angstrom fs-1",
    # MDAnalysis does not read files with forces in eV.
    "force": "kJ mol-1 Angstrom-1",
    "potential_energy": "eV",
    "kinetic_energy": "eV",
    "temperature": "K",
    "source": None,
    "labels": None,
    "conserved_energy": "eV",
    "energy_discontinuity": "eV",
    "heat": "eV",
    "work": "eV",
    "barostat": "eV",
    "pressure": "GPa",
    "stage": None,
    "edges": "Angstrom",
}
_KINDS = {"source": np.int8, "labels": np.int32, "stage": np.int16}
_CHUNK_BYTES = 1 << 16


def group_of(name: str) -> str:
    """Path of the HDF5 group of a quantity."""
    if name == "edges":
        return "particles/all/box/edges"
    vector = name in ("position", "velocity", "force")
    return f"{'particles/all' if vector else 'observables'}/{name}"


def create(
    file: h5py.File,
    atoms: Atoms,
    stages: Sequence[str],
    names: Collection[str] = UNITS.keys(),
) -> None:
    """Create the fixed elements of a file, and an empty series for each of these quantities.

    The constant masses are in ``parameters``: znh5md reads everything in ``particles`` as series.
    """
    n = len(atoms)
    h5md = file.create_group("h5md")
    h5md.attrs["version"] = np.array([1, 1])
    h5md.create_group("author").attrs["name"] = "otf"
    creator = h5md.create_group("creator")
    creator.attrs["name"] = "otf"
    creator.attrs["version"] = __version__
    particles = file.create_group("particles/all")
    file["parameters/mass"] = atoms.get_masses()
    box = particles.create_group("box")
    box.attrs["dimension"] = 3
    box.attrs["boundary"] = np.array(
        ["periodic" if p else "none" for p in atoms.pbc], dtype=h5py.string_dtype()
    )
    box.attrs["cell"] = atoms.cell.array
    position = file.create_group(group_of("position"))
    step = _empty(position, "step", (), np.int64)
    time = _empty(position, "time", (), np.float64)
    time.attrs["unit"] = "fs"
    shapes = {"position": (n, 3), "velocity": (n, 3), "force": (n, 3), "edges": (3, 3)}
    for name in names:
        unit = UNITS[name]
        group = file.require_group(group_of(name))
        value = _empty(group, "value", shapes.get(name, ()), _KINDS.get(name, np.float64))
        if unit is not None:
            value.attrs["unit"] = unit
        if "step" not in group:  # all series share one axis, as H5MD allows by hard links
            group["step"], group["time"] = step, time
    if "stage" in names:
        file[group_of("stage")].attrs["names"] = list(stages)
    species = particles.create_group("species")
    species.attrs["numbers"] = atoms.numbers
    _empty(species, "value", (n,), np.int32)
    species["step"], species["time"] = step, time


def resize(file: h5py.File, n_frames: int) -> None:
    """Set the number of frames of every series."""
    species = file["particles/all/species"]
    for dataset in (*_datasets(file).values(), species["value"]):
        dataset.resize(n_frames, axis=0)


def append(file: h5py.File, series: Series) -> None:
    """Append frames to every series."""
    start, count = n_frames(file), len(series["step"])
    resize(file, start + count)
    for name, dataset in _datasets(file).items():
        dataset[start:] = series[name]
    species = file["particles/all/species"]
    species["value"][start:] = np.tile(species.attrs["numbers"], (count, 1))


def n_frames(file: h5py.File) -> int:
    """Number of frames in the file."""
    return len(file[group_of("position") + "/step"])


def read_series(
    file: h5py.File, names: Collection[str], rows: Ints | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Read step, time, and those of these series that the file has.

    Parameters
    ----------
    rows
        Indices of the frames, increasing; all by default.
    """
    wanted = {*names, "step", "time"}
    return {
        name: dataset[()] if rows is None else _rows(dataset, rows)
        for name, dataset in _datasets(file).items()
        if name in wanted
    }


def _rows(dataset: h5py.Dataset, rows: Ints) -> npt.NDArray[Any]:
    """Read some rows, chunk by chunk, so that only one chunk is in memory at a time."""
    size = dataset.chunks[0]
    chunks, starts = np.unique(rows // size, return_index=True)
    parts = [
        dataset[chunk * size : (chunk + 1) * size][mine - chunk * size]
        for chunk, mine in zip(chunks, np.split(rows, starts)[1:], strict=True)
    ]
    return np.concatenate(parts) if parts else dataset[:0]


def read_system(file: h5py.File) -> Atoms:
    """Species, masses, cell and periodicity; the positions are not used."""
    box = file["particles/all/box"]
    atoms = Atoms(
        file["particles/all/species"].attrs["numbers"],
        cell=box.attrs["cell"],
        pbc=[b == "periodic" for b in box.attrs["boundary"].astype(str)],
    )
    place = "parameters/mass" if "parameters" in file else "particles/all/mass"  # of older files
    masses: Floats = file[place][()]
    atoms.set_masses(masses)
    return atoms


def stage_names(file: h5py.File) -> tuple[str, ...]:
    """Names of the stages, in the order of their numbers; older files have no names."""
    if group_of("stage") not in file:
        return ("run",)
    return tuple(str(name) for name in file[group_of("stage")].attrs.get("names", ("run",)))


def _datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    found = {name: file[group_of(name) + "/value"] for name in UNITS if group_of(name) in file}
    found["step"] = file[group_of("position") + "/step"]
    found["time"] = file[group_of("position") + "/time"]
    return found


def _empty(group: h5py.Group, name: str, shape: tuple[int, ...], kind: type) -> h5py.Dataset:
    item = np.dtype(kind).itemsize * int(np.prod(shape))
    rows = max(1, min(1024, _CHUNK_BYTES // item))
    return group.create_dataset(
        name,
        shape=(0, *shape),
        maxshape=(None, *shape),
        chunks=(rows, *shape),
        dtype=kind,
        fletcher32=True,  # checksum, verified on reading
    )

"""Export of frames and labels to the formats of other programs.

=====================  ===========================================================================
format                 content
=====================  ===========================================================================
extxyz, traj, db       written by ASE: positions, cell, momenta, energy, time
xdatcar                XDATCAR of VASP, fractional coordinates
lammps-dump            ids, types in the order of the species, unwrapped positions, velocities in
                       Angstrom/ps (units metal)
mace                   extxyz with REF_energy, REF_forces, REF_stress
h5md                   positions, velocities, cell, energies; read by MDAnalysis and znh5md
gap                    extxyz with dft_energy, dft_force, dft_virial
deepmd                 a directory of .raw and .npy files
=====================  ===========================================================================
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import ase.io
import h5py
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from otf.arrays import Floats
from otf.errors import FileError
from otf.io import h5md
from otf.io.frames import Frames, right_handed
from otf.io.hdf5 import written_hdf5
from otf.io.labels import StoredLabel
from otf.units import FS

FRAME_FORMATS = ("extxyz", "traj", "db", "xdatcar", "lammps-dump", "h5md")
LABEL_FORMATS = ("mace", "gap", "deepmd")


def write_frames(frames: Frames, path: Path, kind: str) -> None:
    """Write frames in one of :data:`FRAME_FORMATS`.

    Raises
    ------
    FileError
        If the file already exists, or cannot be written.
    """
    _must_be_new(path)
    periodic = bool(frames.atoms.pbc.any())
    needs_cell = kind == "xdatcar" or (kind == "lammps-dump" and periodic)
    if needs_cell and np.linalg.matrix_rank(frames.cells[0]) < 3:
        raise FileError(
            f"{path}: {kind} needs three cell vectors, and the frames have fewer; choose extxyz, "
            "which needs none"
        )
    try:
        if kind == "lammps-dump":
            with path.open("w", encoding="utf-8") as stream:
                for i in range(len(frames)):
                    stream.writelines(_dumped(frames, i))
        elif kind == "h5md":
            with written_hdf5(path, "w") as file:
                _write_h5md(frames, file)
        elif kind == "xdatcar":
            ase.io.write(path, list(_atoms(frames)), format="vasp-xdatcar")
        else:
            ase.io.write(path, list(_atoms(frames)), format=kind)
    except OSError as error:
        raise _not_written(path, error) from error


def _atoms(frames: Frames) -> Iterator[Atoms]:
    energies = frames.series.get("potential_energy_eV")
    for i in range(len(frames)):
        atoms = frames.atoms.copy()
        atoms.set_cell(frames.cells[i])
        atoms.positions = frames.positions[i]
        if frames.velocities is not None:
            atoms.set_velocities(frames.velocities[i] / FS)
        if frames.time_fs is not None:
            atoms.info["time_fs"] = float(frames.time_fs[i])
        if "temperature_K" in frames.series:
            atoms.info["temperature_K"] = float(frames.series["temperature_K"][i])
        if energies is not None:
            atoms.calc = SinglePointCalculator(atoms, energy=float(energies[i]))
        yield atoms


def _write_h5md(frames: Frames, file: h5py.File) -> None:
    count = len(frames)
    series = {
        "step": np.arange(count),
        "time": np.arange(float(count)) if frames.time_fs is None else frames.time_fs,
        "position": frames.positions,
        "edges": frames.cells,
    }
    if frames.velocities is not None:
        series["velocity"] = frames.velocities
    for name, values in frames.series.items():
        known = name.rsplit("_", 1)[0]  # without its unit
        if known in h5md.UNITS:
            series[known] = values
    if frames.stage is not None:
        series["stage"] = frames.stage
    names = [name for name in h5md.UNITS if name in series]
    h5md.create(file, frames.atoms, frames.stages, names)
    h5md.append(file, series)


def _dumped(frames: Frames, i: int) -> Iterator[str]:
    """Lines of one frame, with the cell and all vectors rotated to the convention of LAMMPS."""
    cell, turned = frames.cells[i], frames.positions[i]
    velocities = frames.velocities[i] if frames.velocities is not None else None
    if np.linalg.matrix_rank(cell) == 3:
        from ase.calculators.lammps import Prism

        cell, order = right_handed(cell)
        pbc = frames.atoms.pbc[order]
        prism = Prism(cell, pbc=pbc)
        turned = prism.vector_to_lammps(turned)
        velocities = None if velocities is None else prism.vector_to_lammps(velocities)
        xx, yy, zz, xy, xz, yz = prism.get_lammps_prism()
        tilts = [min(0.0, xy, xz, xy + xz), max(0.0, xy, xz, xy + xz), min(0.0, yz), max(0.0, yz)]
        box = [
            f"{tilts[0]:.10g} {xx + tilts[1]:.10g} {xy:.10g}",
            f"{tilts[2]:.10g} {yy + tilts[3]:.10g} {xz:.10g}",
            f"0 {zz:.10g} {yz:.10g}",
        ]
        bounds = "xy xz yz " + " ".join("pp" if p else "ff" for p in pbc)
    else:
        low, high = turned.min(axis=0) - 1.0, turned.max(axis=0) + 1.0
        box = [f"{a:.10g} {b:.10g}" for a, b in zip(low, high, strict=True)]
        bounds = "ff ff ff"
    kinds = np.unique(frames.atoms.numbers, return_inverse=True)[1] + 1
    columns = "id type element xu yu zu" + ("" if velocities is None else " vx vy vz")
    yield f"ITEM: TIMESTEP\n{i}\nITEM: NUMBER OF ATOMS\n{len(kinds)}\n"
    yield f"ITEM: BOX BOUNDS {bounds}\n" + "\n".join(box) + f"\nITEM: ATOMS {columns}\n"
    numbers = turned if velocities is None else np.hstack([turned, 1e3 * velocities])
    for n, (symbol, row) in enumerate(zip(frames.atoms.symbols, numbers, strict=True)):
        yield f"{n + 1} {kinds[n]} {symbol} " + " ".join(f"{x:.10g}" for x in row) + "\n"


def write_labels(labels: Sequence[StoredLabel], path: Path, kind: str) -> None:
    """Write labels in one of :data:`LABEL_FORMATS`, for training another potential.

    Those whose energy is of another electronic state are left out.

    Raises
    ------
    FileError
        If the file already exists, or cannot be written.
    """
    _must_be_new(path)
    labels = [stored for stored in labels if not stored.labels.level]
    try:
        if kind == "deepmd":
            _write_deepmd(labels, path)
        else:
            frames = [_mace(s) if kind == "mace" else _gap(s) for s in labels]
            ase.io.write(path, frames, format="extxyz")
    except OSError as error:
        raise _not_written(path, error) from error


def _mace(stored: StoredLabel) -> Atoms:
    atoms, labels = stored.atoms.copy(), stored.labels
    atoms.info["REF_energy"] = labels.energy
    atoms.arrays["REF_forces"] = labels.forces
    if labels.stress is not None:
        atoms.info["REF_stress"] = labels.stress
    return atoms


def _gap(stored: StoredLabel) -> Atoms:
    atoms, labels = stored.atoms.copy(), stored.labels
    atoms.info["dft_energy"] = labels.energy
    atoms.arrays["dft_force"] = labels.forces
    if labels.stress is not None:
        atoms.info["dft_virial"] = _virial(stored)
    return atoms


def _virial(stored: StoredLabel) -> Floats:
    """Virial (3, 3), eV, positive under compression as in both programs."""
    assert stored.labels.stress is not None
    virial: Floats = -stored.labels.stress * stored.atoms.get_volume()
    return virial


def _write_deepmd(labels: Sequence[StoredLabel], path: Path) -> None:
    first = labels[0].atoms
    kinds, types = np.unique(first.numbers, return_inverse=True)
    folder = path / "set.000"
    names = [Atoms([int(z)]).get_chemical_symbols()[0] for z in kinds]
    n = len(labels)
    arrays = {
        "coord": np.array([s.atoms.positions for s in labels]).reshape(n, -1),
        "energy": np.array([s.labels.energy for s in labels]),
        "force": np.array([s.labels.forces for s in labels]).reshape(n, -1),
    }
    if first.pbc.any():
        if first.cell.rank < 3:
            raise FileError(
                f"{path}: DeePMD-kit needs all three cell vectors of a periodic structure; give "
                "the run a cell with vacuum"
            )
        boxes = [right_handed(s.atoms.cell.array)[0] for s in labels]
        arrays["box"] = np.array(boxes).reshape(n, 9)
    if all(s.labels.stress is not None for s in labels):
        arrays["virial"] = np.array([_virial(s) for s in labels]).reshape(n, 9)
    folder.mkdir(parents=True)
    (path / "type_map.raw").write_text("\n".join(names) + "\n", encoding="utf-8")
    (path / "type.raw").write_text("\n".join(map(str, types)) + "\n", encoding="utf-8")
    if not first.pbc.any():
        (path / "nopbc").write_text("", encoding="utf-8")
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)


def _must_be_new(path: Path) -> None:
    if path.exists():
        raise FileError(f"{path}: already exists; choose another name, or remove it")


def _not_written(path: Path, error: OSError) -> FileError:
    return FileError(f"{path}: cannot be written ({error.strerror or error}); choose another place")

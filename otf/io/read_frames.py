"""Reader of trajectories of otf, OpenMX and SIESTA, and of all formats of ASE.

===========================  =====================================================================
source                       format
===========================  =====================================================================
run directory, ``.h5``       :mod:`otf.io.trajectory`
OpenMX ``.md``               xyz; time, energy and cell in the comment; velocities in m/s, half a
                             step earlier
SIESTA ``.MD``               Fortran records (iomd.f), bohr and bohr/fs; species from ``.XV``
SIESTA ``.ANI``              xyz; cell from the ``.XV`` file beside it, if there is one
anything else                :func:`ase.io.read`
===========================  =====================================================================
"""

import re
import warnings
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from scipy.io import FortranEOFError, FortranFile, FortranFormattingError

from otf.arrays import Ints
from otf.errors import FileError
from otf.io.committed import SAMPLING
from otf.io.frames import Frames, unwrapped
from otf.io.trajectory import read_trajectory
from otf.units import BOHR, FS, HARTREE

_SAME_TIME = 1e-3  # relative
_M_PER_S = 1e-5  # Angstrom/fs
_NUMBER = r"\s*([-+.\dEe]+)"
_MD_TIME = re.compile(rf"time={_NUMBER}")
_MD_ENERGY = re.compile(rf"Energy={_NUMBER}")
_MD_CELL = re.compile(rf"Cell_Vectors={_NUMBER * 9}")


def read_frames(path: Path, *, timestep_fs: float | None = None) -> Frames:
    """Read all frames of a run directory or of a trajectory file.

    Parameters
    ----------
    timestep_fs
        Time between frames, for files without times, or with times of unknown unit.

    Raises
    ------
    FileError
        If it does not exist or cannot be read, or has times that contradict ``timestep_fs``.
    """
    replicas = sorted(path.glob("replica-*/trajectory.h5"))
    if replicas:
        raise FileError(f"{path}: has replicas; name one of them, such as {replicas[0].parent}")
    if path.is_dir():
        path = path / "trajectory.h5"
    if not path.exists():
        raise FileError(f"{path}: does not exist; name a run directory or a trajectory file")
    try:
        frames = _read(path)
    except FileError:
        raise
    except Exception as error:  # readers of ase.io raise errors of any type
        raise FileError(
            f"{path}: cannot be read as a trajectory ({type(error).__name__}: {error}); name a "
            "run directory or a file that ASE, OpenMX or SIESTA wrote"
        ) from error
    if timestep_fs is None:
        return frames
    if frames.time_fs is not None and len(frames) > 1:
        own = float(np.diff(frames.time_fs).mean())
        if abs(own - timestep_fs) > _SAME_TIME * own:
            raise FileError(
                f"{path}: its frames are {own:g} fs apart, not {timestep_fs:g}; leave "
                "--timestep-fs out"
            )
        return frames
    return frames.at(timestep_fs * np.arange(float(len(frames))))


def _read(path: Path) -> Frames:
    if path.suffix == ".h5":
        return frames_of_run(path)
    if path.suffix == ".MD":
        return _siesta_md(path)
    if path.suffix in (".md", ".md0"):
        return _openmx_md(path)
    read = ase.io.read(path, index=":", format="xyz" if path.suffix == ".ANI" else None)
    beside = path.with_suffix(".XV")
    cell = ase.io.read(beside).cell.array if path.suffix == ".ANI" and beside.exists() else None
    return _ase(path, read, cell)


def frames_of_run(path: Path, rows: Ints | None = None) -> Frames:
    """Frames of a trajectory of otf: see :func:`~otf.io.trajectory.read_trajectory`."""
    t = read_trajectory(path, rows, forces=False)
    series = {
        "potential_energy_eV": t.potential_energy,
        "kinetic_energy_eV": t.kinetic_energy,
        "conserved_energy_eV": t.conserved_energy,
        "temperature_K": t.temperature,
        "pressure_GPa": t.pressure_GPa,
    }
    # Successive frames of hybrid Monte Carlo are not successive in time.
    dynamics = t.stages != SAMPLING
    return Frames(
        str(path),
        t.atoms,
        t.positions,
        t.cells,
        t.time_fs if dynamics else None,
        t.velocities if np.isfinite(t.velocities).all() else None,
        {name: values for name, values in series.items() if np.isfinite(values).any()},
        t.stages,
        t.stage,
    )


def _openmx_md(path: Path) -> Frames:
    lines = path.read_text(encoding="utf-8").splitlines()
    n = int(lines[0])
    if len(lines) % (n + 2):  # the last frame of a run in progress may be incomplete
        lines = lines[: len(lines) - len(lines) % (n + 2)]
    blocks = [lines[i : i + n + 2] for i in range(0, len(lines), n + 2)]
    table = np.array([[row.split()[1:10] for row in block[2:]] for block in blocks], dtype=float)
    symbols = [row.split()[0] for row in blocks[0][2:]]
    heads = [block[1] for block in blocks]
    cells = np.array([_found(_MD_CELL, head) for head in heads]).reshape(-1, 3, 3)
    return Frames(
        str(path),
        Atoms(symbols, cell=cells[0], pbc=True),
        unwrapped(table[:, :, :3], cells, np.ones(3, dtype=bool)),
        cells,
        np.array([_found(_MD_TIME, head)[0] for head in heads]),
        table[:, :, 6:9] * _M_PER_S,
        {"potential_energy_eV": HARTREE * np.array([_found(_MD_ENERGY, h)[0] for h in heads])},
    )


def _found(pattern: re.Pattern[str], head: str) -> list[float]:
    match = pattern.search(head)
    if match is None:
        raise ValueError(f"no '{pattern.pattern.split('=')[0]}=' in '{head.strip()}'")
    return [float(x) for x in match.groups()]


def _siesta_md(path: Path) -> Frames:
    final = ase.io.read(path.with_suffix(".XV"))
    n = len(final)
    positions, velocities, cells = [], [], []
    with FortranFile(path, "r") as file:
        while True:
            try:
                record = file.read_record(np.uint8).tobytes()
            except (FortranEOFError, FortranFormattingError):  # the end, or an incomplete record
                break
            if len(record) == 4 + 8 * 6 * n:  # else the cell and its velocity, if it varies
                numbers = np.frombuffer(record[4:]).reshape(2, n, 3) * BOHR
                positions.append(numbers[0])
                velocities.append(numbers[1])
            elif len(record) == 8 * 18:
                cells.append(np.frombuffer(record)[:9].reshape(3, 3) * BOHR)
            else:
                raise ValueError(f"a record of {len(record)} bytes does not fit {n} atoms")
    if not cells:
        cells = [final.cell.array] * len(positions)
    n_frames = min(len(cells), len(positions))  # the last record may not be written yet
    return Frames(
        str(path),
        Atoms(final.numbers, cell=final.cell, pbc=True),
        np.array(positions[:n_frames]),
        np.array(cells[:n_frames]),
        None,
        np.array(velocities[:n_frames]),
    )


def _ase(path: Path, read: list[Atoms], cell: np.ndarray | None) -> Frames:
    first = read[0]
    if any(not np.array_equal(a.numbers, first.numbers) for a in read):
        raise ValueError("its frames hold different atoms")
    atoms = Atoms(first.numbers, cell=first.cell, pbc=first.pbc)
    atoms.set_masses(first.get_masses())
    cells = np.array([a.cell.array for a in read])
    if cell is not None:
        atoms.set_cell(cell)
        atoms.pbc = True
        cells[:] = cell
    times = [a.info.get("time_fs") for a in read]  # the unit of "time" is not known
    moving = all(a.has("momenta") for a in read)
    series = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # calculators without an energy
        energies = [a.calc.results.get("energy") if a.calc is not None else None for a in read]
    if all(e is not None for e in energies):
        series["potential_energy_eV"] = np.array(energies, dtype=float)
    if moving:
        series["kinetic_energy_eV"] = np.array([a.get_kinetic_energy() for a in read])
        # That of the program, which leaves out what does not move, or that of all atoms.
        series["temperature_K"] = np.array(
            [float(a.info.get("temperature_K", a.get_temperature())) for a in read]
        )
    return Frames(
        str(path),
        atoms,
        unwrapped(np.array([a.positions for a in read]), cells, atoms.pbc),
        cells,
        np.array(times, dtype=float) if all(t is not None for t in times) else None,
        np.array([a.get_velocities() * FS for a in read]) if moving else None,
        series,
    )

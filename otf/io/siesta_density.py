"""Reader of electron densities of SIESTA: ``.RHO``, ``Rho.grid.nc``, the structure in ``.XV``."""

from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.io import FortranFile, netcdf_file

from otf.arrays import Floats
from otf.errors import FileError
from otf.orbitals.grids import Grid
from otf.units import BOHR

_SPINS = 2  # further components give the direction of the magnetisation


def read_siesta_density(path: Path) -> tuple[Atoms, Grid, Floats]:
    """Read structure, grid, and density in electrons per cubic Angstrom.

    Raises
    ------
    FileError
        If the file, or the ``.XV`` file beside it, is missing or damaged.
    """
    try:
        cell, values = _netcdf(path) if path.suffix == ".nc" else _unformatted(path)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise FileError(f"{path}: cannot be read as a density of SIESTA ({error})") from error
    atoms = _structure(path)
    grid = Grid(np.zeros(3), cell * BOHR / np.array(values.shape)[:, None], values.shape)
    return atoms, grid, values / BOHR**3


def _unformatted(path: Path) -> tuple[Floats, Floats]:
    """Cell, bohr, and density, electrons per cubic bohr; format of ``rhoofd.F``, SIESTA 4.1."""
    with FortranFile(path, "r") as file:
        cell = file.read_reals(np.float64).reshape(3, 3)
        *mesh, spins = (int(n) for n in file.read_ints(np.int32))
        rows = [file.read_reals(np.float32) for _ in range(min(spins, _SPINS) * mesh[1] * mesh[2])]
    values = np.array(rows, dtype=np.float64).reshape(-1, mesh[2], mesh[1], mesh[0])
    return cell, values.sum(axis=0).transpose(2, 1, 0)


def _netcdf(path: Path) -> tuple[Floats, Floats]:
    with netcdf_file(path, "r", mmap=False) as file:
        cell = np.array(file.variables["cell"][:], dtype=np.float64)
        values = np.array(file.variables["gridfunc"][:], dtype=np.float64)
    return cell, values[:_SPINS].sum(axis=0).transpose(2, 1, 0)


def _structure(path: Path) -> Atoms:
    """Structure from ``NAME.XV`` beside ``NAME.RHO``, or the only ``.XV`` in the directory."""
    named = path.with_suffix(".XV")
    found = [named] if named.exists() else sorted(path.parent.glob("*.XV"))
    if len(found) != 1:
        raise FileError(f"{path}: its structure is in a .XV file, of which there are {len(found)}")
    try:
        lines = found[0].read_text(encoding="utf-8").splitlines()
        cell = np.array([[float(x) for x in line.split()[:3]] for line in lines[:3]])
        rows = [line.split() for line in lines[4 : 4 + int(lines[3])]]
        numbers = [int(row[1]) for row in rows]
        places = np.array([[float(x) for x in row[2:5]] for row in rows])
    except (OSError, ValueError, IndexError) as error:
        raise FileError(f"{found[0]}: cannot be read as a structure ({error})") from error
    return Atoms(numbers, places * BOHR, cell=cell * BOHR, pbc=True)

"""Files of densities on regular grids: Gaussian cube files, by ASE, and HDF5."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.cube import read_cube as read
from ase.io.cube import write_cube as write

from otf.arrays import Floats
from otf.errors import FileError
from otf.io.durable import replace_file
from otf.io.hdf5 import written_hdf5
from otf.io.siesta_density import read_siesta_density
from otf.orbitals.grids import Grid
from otf.units import BOHR

_KIND = "electron density"


def write_cube(path: Path, atoms: Atoms, grid: Grid, density: Floats) -> None:
    """Write a density in electrons per cubic Angstrom to a cube file, which is in atomic units.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    boxed = Atoms(atoms.numbers, atoms.positions, cell=grid.steps * np.array(grid.shape)[:, None])
    try:
        with path.open("w", encoding="utf-8") as file:
            write(file, boxed, density * BOHR**3, origin=grid.origin, comment=_KIND)
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror})") from error


def read_cube(path: Path) -> tuple[Atoms, Grid, Floats]:
    """Read structure, grid, and density in electrons per cubic Angstrom from a cube file.

    Raises
    ------
    FileError
        If it is missing or not a cube file.
    """
    try:
        with path.open(encoding="utf-8") as file:
            found = read(file)
    except (OSError, ValueError, IndexError) as error:
        raise FileError(f"{path}: cannot be read as a cube file ({error})") from error
    grid = Grid(np.asarray(found["origin"]), np.asarray(found["spacing"]), found["data"].shape)
    return found["atoms"], grid, np.asarray(found["data"] / BOHR**3)


def read_density(path: Path) -> tuple[Atoms, Grid, Floats]:
    """Read structure, grid and density of a cube file, or of SIESTA's ``.RHO`` or ``Rho.grid.nc``.

    Raises
    ------
    FileError
        If it is missing, damaged or of another kind.
    """
    if path.suffix in (".RHO", ".nc"):
        return read_siesta_density(path)
    if path.suffix in (".cube", ".cub"):
        return read_cube(path)
    raise FileError(f"{path}: densities are read from .cube, .RHO and .grid.nc files")


def write_volume(path: Path, atoms: Atoms, grid: Grid, density: Floats) -> None:
    """Write a density in electrons per cubic Angstrom to an HDF5 file, lengths in Angstrom.

    Raises
    ------
    FileError
        If the file cannot be written.
    """

    def fill(aside: Path) -> None:
        with written_hdf5(aside, "w") as file:
            file.attrs["kind"] = _KIND
            file.attrs["format"] = 1
            stored = file.create_dataset("density", data=density, compression="gzip", shuffle=True)
            stored.attrs["unit"] = "1/Angstrom^3"
            stored.attrs["origin_A"] = grid.origin
            stored.attrs["steps_A"] = grid.steps
            file["numbers"] = atoms.numbers
            file["positions_A"] = atoms.positions
            file["cell_A"] = atoms.cell.array
            file["pbc"] = atoms.pbc

    try:
        replace_file(path, fill)
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error})") from error

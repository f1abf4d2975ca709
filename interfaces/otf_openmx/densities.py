"""Initial densities for OpenMX.

In ``NAME_rst`` each rank has its part of the grid in ``NAME.crst0_RANK_0``: float64, in atomic
units, half the density minus that of isolated atoms (``RestartFileDFT.c`` of OpenMX 3.9). The
partition of the grid among the ranks follows from the sizes of those files.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.engines.protocol import DensityGuess
from otf.errors import EngineError
from otf.orbitals.atomic_densities import DensityOfAtoms, RoundDensity
from otf.orbitals.grids import Grid
from otf_openmx.changes import NAME
from otf_openmx.output import BOHR_A, read_grid, text

_SPINS = 2.0


def begin_from(
    guess: DensityGuess,
    atoms: Atoms,
    before: Path,
    directory: Path,
    elements: Mapping[int, RoundDensity] | None,
) -> None:
    """Replace the density that a label starts from, a copy of the last one's, by a guess.

    Parameters
    ----------
    before, directory
        Directories of the last label and of this one.
    elements
        Densities of the isolated atoms, if known.

    Raises
    ------
    EngineError
        If the guess is not known in space, or the last label has another grid.
    """
    if guess.density is None or elements is None:
        raise EngineError("the orbitals are not known as functions in space")
    shape = read_grid(text(before / f"{NAME}.std"))
    if shape is None:
        raise EngineError(f"the output in {before} names no grid")
    grid = Grid(np.zeros(3), atoms.cell.array / np.array(shape)[:, None], shape)
    alone = grid.sampled(DensityOfAtoms(atoms, elements).at)
    write_density(directory / f"{NAME}_rst", NAME, guess.density(atoms, grid) - alone)


def write_density(folder: Path, name: str, difference: Floats) -> None:
    """Write a density to OpenMX's restart files.

    Parameters
    ----------
    folder
        ``NAME_rst``, with the restart files of an earlier run on the same grid.
    difference
        Density on the grid minus that of isolated atoms, electrons per cubic Angstrom.

    Raises
    ------
    EngineError
        If the files there belong to another grid.
    """
    ranks = len(list(folder.glob(f"{name}.crst0_*_0")))
    files = [folder / f"{name}.crst0_{rank}_0" for rank in range(ranks)]
    ends = np.cumsum([0, *(path.stat().st_size // 8 for path in files)])
    if ends[-1] != difference.size:
        raise EngineError(f"{folder} has {ends[-1]} grid points, the density {difference.size}")
    values = difference.ravel() * (BOHR_A**3 / _SPINS)
    for path, (start, end) in zip(files, pairwise(ends.tolist()), strict=True):
        path.write_bytes(values[start:end].tobytes())

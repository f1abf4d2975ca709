"""Initial densities for OpenMX.

In ``NAME_rst`` each rank has its part of the grid in ``NAME.crst0_RANK_0``: float64, in atomic
units, half the density minus that of isolated atoms (``RestartFileDFT.c`` of OpenMX 3.9). The
partition of the grid among the ranks follows from the sizes of those files.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np

from otf.arrays import Floats
from otf_openmx.output import BOHR_A

_SPINS = 2.0


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
    ValueError
        If the files there belong to another grid.
    """
    ranks = len(list(folder.glob(f"{name}.crst0_*_0")))
    files = [folder / f"{name}.crst0_{rank}_0" for rank in range(ranks)]
    ends = np.cumsum([0, *(path.stat().st_size // 8 for path in files)])
    if ends[-1] != difference.size:
        raise ValueError(f"{folder} has {ends[-1]} grid points, the density {difference.size}")
    values = difference.ravel() * (BOHR_A**3 / _SPINS)
    for path, (start, end) in zip(files, pairwise(ends.tolist()), strict=True):
        path.write_bytes(values[start:end].tobytes())

"""File of the radial functions of the basis of a run, in HDF5."""

from collections.abc import Mapping
from pathlib import Path

from otf.errors import FileError
from otf.io.array_file import read_arrays, write_arrays
from otf.orbitals.block_matrices import RadialFunctions

_KIND = "orbitals"


def write_orbitals(path: Path, basis: str, functions: Mapping[int, RadialFunctions]) -> None:
    """Write the radial functions of each element, replacing the file if it exists.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    arrays = {f"{z}-distances": f.distances for z, f in functions.items()}
    arrays |= {f"{z}-values": f.values for z, f in functions.items()}
    write_arrays(path, _KIND, {"basis": basis, "numbers": list(functions)}, arrays)


def read_orbitals(path: Path, basis: str) -> dict[int, RadialFunctions]:
    """Read the radial functions of each element.

    Raises
    ------
    FileError
        If it is missing, damaged, or of another basis.
    """
    scalars, arrays = read_arrays(path, _KIND)
    if scalars["basis"] != basis:
        raise FileError(f"{path}: its orbitals are not those of the labels' matrices")
    return {
        z: RadialFunctions(arrays[f"{z}-distances"], arrays[f"{z}-values"])
        for z in scalars["numbers"]
    }

"""Files of the matrices of labels: a small HDF5 file for each, written atomically."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from otf.errors import FileError
from otf.io.array_file import read_arrays, write_arrays
from otf.orbitals.block_matrices import BlockMatrix, Matrices, Pairs

_KIND = "matrices"
_NAMES = ("hamiltonian", "overlap", "density")


@dataclass(frozen=True, eq=False)
class LabelMatrices:
    """Matrices of a label, with its initial density guess.

    Attributes
    ----------
    start
        Initial density guess that was used.
    iterations
        SCF iterations from there, or None.
    errors
        Error of each density matrix that was available as the initial guess.
    """

    atoms: Atoms
    matrices: Matrices
    start: str
    iterations: int | None
    errors: dict[str, float]


def write_matrices(path: Path, label: LabelMatrices) -> None:
    """Write the matrices of a label, replacing the file if it exists.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    matrices, one = label.matrices, label.matrices.hamiltonian
    path.parent.mkdir(exist_ok=True)
    write_arrays(
        path,
        _KIND,
        {
            "shells": [[z, list(degrees)] for z, degrees in one.shells.items()],
            "electrons": matrices.electrons,
            "smearing_eV": matrices.smearing_eV,
            "methfessel_paxton": matrices.methfessel_paxton,
            "basis": matrices.basis,
            "start": label.start,
            "iterations": label.iterations,
            "errors": label.errors,
        },
        {
            "numbers": one.numbers,
            "cores": matrices.cores,
            "positions": label.atoms.positions,
            "cell": label.atoms.cell.array,
            "pbc": label.atoms.pbc,
            "first": one.pairs.first,
            "second": one.pairs.second,
            "shifts": one.pairs.shifts,
            **{name: getattr(matrices, name).values for name in _NAMES},
            **({} if matrices.kpoints is None else {"kpoints": matrices.kpoints}),
        },
    )


def read_matrices(path: Path) -> LabelMatrices:
    """Read the matrices of a label.

    Raises
    ------
    FileError
        If the file is damaged or of another kind.
    """
    scalars, arrays = read_arrays(path, _KIND)
    try:
        return _label(scalars, arrays)
    except (KeyError, ValueError) as error:
        raise FileError(
            f"{path}: is of another version of otf ({error}); remove it, it only speeds up labels"
        ) from error


def _label(scalars: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> LabelMatrices:
    shells = {int(z): tuple(degrees) for z, degrees in scalars["shells"]}
    pairs = Pairs(arrays["first"], arrays["second"], arrays["shifts"])
    blocks = {n: BlockMatrix(arrays["numbers"], shells, pairs, arrays[n]) for n in _NAMES}
    atoms = Atoms(arrays["numbers"], arrays["positions"])
    atoms.set_cell(arrays["cell"])
    atoms.pbc = np.asarray(arrays["pbc"], dtype=bool)
    return LabelMatrices(
        atoms,
        Matrices(
            hamiltonian=blocks["hamiltonian"],
            overlap=blocks["overlap"],
            density=blocks["density"],
            electrons=scalars["electrons"],
            cores=arrays["cores"],
            kpoints=arrays.get("kpoints"),
            smearing_eV=scalars["smearing_eV"],
            methfessel_paxton=scalars.get("methfessel_paxton"),
            basis=scalars["basis"],
        ),
        scalars["start"],
        scalars["iterations"],
        scalars["errors"],
    )

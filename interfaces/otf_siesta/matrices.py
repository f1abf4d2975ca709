"""Hamiltonian, overlap and density matrices of SIESTA, read and written by sisl.

``pip install 'otf-aimd[siesta]'``. Energies in files are absolute; sisl shifts Hamiltonians and
energy density matrices to the Fermi level when it reads, and writes them unshifted. Here both are
as in the files.

=========  ========================================  ==================
file       holds                                     keyword of SIESTA
=========  ========================================  ==================
``.DM``    density matrix                            (always)
``.TSDE``  density and energy density matrix, E_F    ``TS.DE.Save T``
``.TSHS``  Hamiltonian and overlap                   ``TS.HS.Save T``
=========  ========================================  ==================
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sisl
from ase import Atoms

from otf.errors import EngineError
from otf_siesta.fdf import read
from otf_siesta.geometry import read_structure


@dataclass(frozen=True, eq=False)
class Densities:
    """Contents of a ``.TSDE`` file.

    Attributes
    ----------
    density, energy_density
        Sparse matrices over the orbitals of the cell and those of the auxiliary supercell; eV.
    fermi_level
        eV.
    """

    density: sisl.DensityMatrix
    energy_density: sisl.EnergyDensityMatrix
    fermi_level: float


def read_geometry(directory: Path, label: str = "otf") -> sisl.Geometry:
    """Structure and orbitals of a run, from its input file and its ``.ORB_INDX``.

    Raises
    ------
    EngineError
        If a file is missing.
    """
    atoms = read_structure(read(directory / f"{label}.fdf"))
    return geometry_of(atoms, directory / f"{label}.ORB_INDX")


def geometry_of(atoms: Atoms, index: Path) -> sisl.Geometry:
    """A structure with its orbitals, from a ``.ORB_INDX`` file.

    Raises
    ------
    EngineError
        If the file is missing.
    """
    path = _existing(index, "SIESTA writes it at every start")
    with _silent():
        basis = sisl.get_sile(path).read_basis()
    return sisl.Geometry(atoms.positions, basis, sisl.Lattice(atoms.cell.array))


def structure_of(path: Path) -> Atoms:
    """The structure in a ``.TSHS`` file."""
    with _silent():
        found = sisl.get_sile(path).read_geometry()
    numbers = [int(atom.Z) for atom in found.atoms]
    return Atoms(numbers, found.xyz, cell=found.cell)


def read_density(path: Path, geometry: sisl.Geometry) -> sisl.DensityMatrix:
    """Density matrix of a ``.DM`` file.

    Raises
    ------
    EngineError
        If it is missing.
    """
    _existing(path, "SIESTA writes it in every cycle, unless WriteDM is off")
    with _silent():
        return sisl.get_sile(path).read_density_matrix(geometry=geometry)


def write_density(path: Path, density: sisl.DensityMatrix) -> None:
    """Write a ``.DM`` file, for SIESTA to start from (``DM.UseSaveDM T``)."""
    with _silent():
        sisl.get_sile(path, "w").write_density_matrix(density)


def read_densities(path: Path, geometry: sisl.Geometry) -> Densities:
    """Density and energy density matrices of a ``.TSDE`` file.

    Raises
    ------
    EngineError
        If it is missing.
    """
    _existing(path, "request it with TS.DE.Save T")
    with _silent():
        file = sisl.get_sile(path)
        fermi = float(file.read_fermi_level())
        density = file.read_density_matrix(geometry=geometry)
        energy_density = file.read_energy_density_matrix(geometry=geometry)
    return Densities(density, energy_density + density * fermi, fermi)


def write_densities(path: Path, matrices: Densities) -> None:
    """Write a ``.TSDE`` file."""
    with _silent():
        sisl.get_sile(path, "w").write_density_matrices(
            matrices.density, matrices.energy_density, matrices.fermi_level
        )


def read_hamiltonian(path: Path, geometry: sisl.Geometry) -> sisl.Hamiltonian:
    """Hamiltonian and overlap of a ``.TSHS`` file.

    Raises
    ------
    EngineError
        If it is missing.
    """
    _existing(path, "request it with TS.HS.Save T")
    with _silent():
        file = sisl.get_sile(path)
        hamiltonian = file.read_hamiltonian(geometry=geometry)
        hamiltonian.shift(float(file.read_fermi_level()))
    return hamiltonian


def write_hamiltonian(path: Path, hamiltonian: sisl.Hamiltonian) -> None:
    """Write a ``.TSHS`` file."""
    with _silent():
        sisl.get_sile(path, "w").write_hamiltonian(hamiltonian)


def _existing(path: Path, remedy: str) -> Path:
    if not path.is_file():
        raise EngineError(f"{path}: is missing; {remedy}")
    return path


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress sisl's warnings about supercells taken from the file, which are intended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

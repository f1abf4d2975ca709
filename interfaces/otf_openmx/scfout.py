"""Hamiltonian, overlap and density matrix from an OpenMX ``.scfout`` file.

Little endian, without record markers: six integers (atoms, spin + 4 version, Catom, Latom, Ratom,
cells), from 3.9 on the order of the position operators, the cells, the neighbours, the lattice,
then the matrices, each atom by atom, neighbour by neighbour, orbital by orbital. Orbitals of an
atom: s, then p (x, y, z), then d (3z2-r2, x2-y2, xy, xz, yz), each with all its multiplicities.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from otf.arrays import Floats, Ints
from otf.errors import EngineError
from otf_openmx.output import BOHR_A

Matrix = list[list[Floats]]
"""Blocks (orbitals of i, orbitals of j) by atom i and by its neighbours in order."""

_SPIN_BITS = 4
_NON_COLLINEAR = 3
_VERSIONS = (0, 3)


@dataclass(frozen=True, eq=False)
class ScfOut:
    """Contents of the ``.scfout`` file of a converged run.

    Attributes
    ----------
    positions, cell
        (N, 3) and (3, 3), Angstrom.
    orbitals
        (N,) basis functions of each atom.
    neighbours, cells
        Neighbours of each atom, itself first, and their lattice translations (…, 3).
    hamiltonian, overlap, density
        Hartree; dimensionless; electrons per spin. The first and the last once for each spin.
    electrons
        Number of valence electrons.
    """

    positions: Floats
    cell: Floats
    orbitals: Ints
    neighbours: list[Ints]
    cells: list[Ints]
    hamiltonian: list[Matrix]
    overlap: Matrix
    density: list[Matrix]
    electrons: float


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def integers(self, count: int) -> Ints:
        return self._take(count, "<i4").astype(np.int64)

    def numbers(self, count: int) -> Floats:
        return self._take(count, "<f8")

    def _take(self, count: int, kind: str) -> Floats:
        size = count * np.dtype(kind).itemsize
        if self._at + size > len(self._data):
            raise ValueError("ends too early")
        out = np.frombuffer(self._data, kind, count, self._at)
        self._at += size
        return out


def read_scfout(path: Path) -> ScfOut:
    """Read a ``.scfout`` file of OpenMX 3.8 or 3.9, collinear.

    Raises
    ------
    EngineError
        If it is damaged or of an unsupported kind.
    """
    try:
        return _read(_Reader(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{path}: cannot be read as .scfout of OpenMX 3.8 or 3.9 ({error}); run it again with "
            "HS.fileout on"
        ) from error


def _read(file: _Reader) -> ScfOut:
    atoms, flags, *_, n_cells = file.integers(6).tolist()
    spin, version = flags % _SPIN_BITS, flags // _SPIN_BITS
    if atoms < 1 or version not in _VERSIONS:
        raise ValueError(f"version {version} with {atoms} atoms is not supported")
    if spin == _NON_COLLINEAR:
        raise ValueError("non-collinear spins are not supported")
    orders = int(file.integers(1)[0]) if version else 1
    file.numbers(4 * (n_cells + 1))
    offsets = file.integers(4 * (n_cells + 1)).reshape(-1, 4)[:, 1:]
    orbitals, counts = file.integers(atoms), file.integers(atoms)
    neighbours = [file.integers(int(n) + 1) - 1 for n in counts]
    cells = [offsets[file.integers(int(n) + 1)] for n in counts]
    lattice = file.numbers(12).reshape(3, 4)[:, 1:]
    file.numbers(12)
    positions = file.numbers(4 * atoms).reshape(atoms, 4)[:, 1:]

    def matrix() -> Matrix:
        return [
            [
                file.numbers(int(orbitals[i] * orbitals[j])).reshape(orbitals[i], orbitals[j])
                for j in neighbours[i]
            ]
            for i in range(atoms)
        ]

    hamiltonian = [matrix() for _ in range(spin + 1)]
    overlap = matrix()
    for _ in range(3 * orders + (3 if version else 0)):  # position and momentum operators
        matrix()
    density = [matrix() for _ in range(spin + 1)]
    if version:
        for _ in range(2):  # imaginary part, needed only with spin-orbit coupling
            matrix()
    file.integers(1)
    electrons = float(file.numbers(10)[8])
    return ScfOut(
        positions * BOHR_A,
        lattice * BOHR_A,
        orbitals,
        neighbours,
        cells,
        hamiltonian,
        overlap,
        density,
        electrons,
    )

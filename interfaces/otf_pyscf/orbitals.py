"""Conversion between the orbital orders of PySCF and :mod:`otf.orbitals.block_matrices`.

PySCF lists the contractions of a shell one after another, p as x, y, z, and from d on as real
harmonics m = -l … l.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from otf.arrays import Floats, Ints
from otf.orbitals.block_matrices import BlockMatrix, RadialFunctions, Shells
from otf.units import BOHR

_P_FROM_XYZ = (1, 2, 0)
_NEGLIGIBLE = 1e-10  # of the most diffuse Gaussian, where orbitals are cut off
_POINTS = 2000


def shells_of(molecule: Any) -> Shells:
    """Degrees of the shells of each element.

    Raises
    ------
    ValueError
        If atoms of one element have different bases.
    """
    found: dict[int, tuple[int, ...]] = {}
    numbers = numbers_of(molecule).tolist()
    for atom, number in enumerate(numbers):
        degrees = tuple(degree for at, degree in _shells(molecule) if at == atom)
        if found.setdefault(number, degrees) != degrees:
            raise ValueError(f"atoms of atomic number {number} have different bases")
    return found


def numbers_of(molecule: Any) -> Ints:
    """(N,) atomic numbers, also of atoms with an effective core potential."""
    symbols = [molecule.atom_pure_symbol(i) for i in range(molecule.natm)]
    return np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64)


def order_of(molecule: Any) -> Ints:
    """Index in PySCF's order of each orbital in otf's order."""
    order: list[int] = []
    for _, degree in _shells(molecule):
        at, size = len(order), 2 * degree + 1
        order += [at + m for m in (_P_FROM_XYZ if degree == 1 else range(size))]
    return np.array(order, dtype=np.int64)


def _shells(molecule: Any) -> Iterator[tuple[int, int]]:
    """Atom and degree of each shell, in PySCF's order."""
    for shell in range(molecule.nbas):
        for _ in range(molecule.bas_nctr(shell)):
            yield molecule.bas_atom(shell), molecule.bas_angular(shell)


def to_blocks(matrix: Floats, molecule: Any) -> BlockMatrix:
    """Convert a PySCF matrix to atom-pair blocks."""
    order = order_of(molecule)
    numbers = numbers_of(molecule)
    return BlockMatrix.of_dense(numbers, shells_of(molecule), matrix[np.ix_(order, order)])


def from_blocks(matrix: BlockMatrix, molecule: Any) -> Floats:
    """The inverse of :func:`to_blocks`.

    Raises
    ------
    EngineError
        If it is of another basis.
    """
    matrix.require_shells(shells_of(molecule))
    back = np.argsort(order_of(molecule))
    return np.asarray(matrix.dense()[np.ix_(back, back)])


def radial_functions(molecule: Any) -> dict[int, RadialFunctions]:
    """Radial functions of each element."""
    found: dict[int, RadialFunctions] = {}
    for atom, number in enumerate(numbers_of(molecule).tolist()):
        if number in found:
            continue
        shells = [k for k in range(molecule.nbas) if molecule.bas_atom(k) == atom]
        least = min(float(molecule.bas_exp(k).min()) for k in shells)
        reach = np.sqrt(-np.log(_NEGLIGIBLE) / least)
        distances = reach * np.linspace(0.0, 1.0, _POINTS) ** 3  # in bohr, dense at the core
        values = np.concatenate([_radial(molecule, k, distances) for k in shells])
        found[number] = RadialFunctions(distances * BOHR, values * BOHR**-1.5)
    return found


def _radial(molecule: Any, shell: int, distances: Floats) -> Floats:
    """R(r) (contractions, points) of a shell, in atomic units."""
    from pyscf.gto import gto_norm

    degree, exponents = molecule.bas_angular(shell), molecule.bas_exp(shell)
    primitives = gto_norm(degree, exponents)[:, None] * np.exp(-np.outer(exponents, distances**2))
    return np.asarray(molecule.bas_ctr_coeff(shell).T @ primitives * distances**degree)

"""OpenMX matrices as atom-pair blocks, in the order of :mod:`otf.orbitals.block_matrices`.

OpenMX orders the orbitals of an atom by degree, then by multiplicity, then by real harmonic: p as
x, y, z; d as 3z2-r2, x2-y2, xy, xz, yz. Signs are as in otf.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from otf.arrays import Floats, Ints
from otf.orbitals.atomic_densities import RoundDensity
from otf.orbitals.block_matrices import BlockMatrix, Pairs, RadialFunctions, Shells, width
from otf_openmx.output import BOHR_A
from otf_openmx.scfout import Matrix, ScfOut

_BASIS = re.compile(r"[-.\w]*?-((?:[a-z]\d)+)")
_DEGREES = {"s": 0, "p": 1, "d": 2}
_OURS = {0: (0,), 1: (1, 2, 0), 2: (2, 4, 0, 3, 1)}
"""Positions of the harmonics m = -l … l in OpenMX's order."""


def shells_of(basis: str) -> tuple[int, ...]:
    """Degrees of the shells of a basis.

    >>> shells_of("C6.0-s2p2d1")
    (0, 0, 1, 1, 2)

    Raises
    ------
    ValueError
        If it is not a basis of s, p and d shells.
    """
    found = _BASIS.fullmatch(basis)
    parts = re.findall(r"([a-z])(\d)", found[1]) if found else []
    if not parts or any(letter not in _DEGREES for letter, _ in parts):
        raise ValueError(f"'{basis}' is not a basis of s, p and d shells, such as C6.0-s2p2d1")
    return tuple(_DEGREES[letter] for letter, count in parts for _ in range(int(count)))


def to_blocks(
    matrix: Matrix, known: ScfOut, numbers: Ints, bases: Mapping[int, str]
) -> BlockMatrix:
    """Convert one of the matrices of a run.

    Parameters
    ----------
    matrix
        Such as ``known.overlap``.
    numbers
        (N,) atomic numbers, which the file does not contain.
    bases
        Basis of each atomic number.

    Raises
    ------
    ValueError
        If the orbitals of a basis differ from those in the file.
    """
    shells: Shells = {number: shells_of(basis) for number, basis in bases.items()}
    orders = {number: _order(degrees) for number, degrees in shells.items()}
    wrong = [
        i for i, z in enumerate(numbers.tolist()) if width(shells[z]) != int(known.orbitals[i])
    ]
    if wrong:
        i = wrong[0]
        raise ValueError(
            f"atom {i + 1} has {known.orbitals[i]} orbitals, and {bases[int(numbers[i])]} has "
            f"{width(shells[int(numbers[i])])}"
        )
    first, second, shifts, values = [], [], [], []
    for i, (near, cells) in enumerate(zip(known.neighbours, known.cells, strict=True)):
        for j, cell, block in zip(near.tolist(), cells, matrix[i], strict=True):
            first.append(i)
            second.append(j)
            shifts.append(cell)
            ours = block[np.ix_(orders[int(numbers[i])], orders[int(numbers[j])])]
            values.append(ours.ravel())
    pairs = Pairs(np.array(first), np.array(second), np.array(shifts, dtype=np.int64))
    return BlockMatrix(numbers, shells, pairs, np.concatenate(values))


def radial_functions(folder: Path, bases: Mapping[int, str]) -> dict[int, RadialFunctions] | None:
    """Radial functions of each element, from the ``.pao`` files; None if one is missing.

    Parameters
    ----------
    folder
        ``PAO`` of ``DATA.PATH``.
    bases
        Basis of each atomic number, such as ``C6.0-s2p2d1``.
    """
    found = {}
    for number, basis in bases.items():
        text = _pao(folder, basis)
        if text is None:
            return None
        values = []
        for degree, count in Counter(shells_of(basis)).items():
            table = _table(text, f"pseudo.atomic.orbitals.L={degree}")
            distances = np.concatenate([[0.0], table[:, 1]])  # column 0 is the logarithm
            nucleus = table[0] if degree == 0 else 0.0 * table[0]
            values += list(np.vstack([nucleus, table]).T[2 : 2 + count])
        found[number] = RadialFunctions(distances * BOHR_A, np.array(values) * BOHR_A**-1.5)
    return found


def atomic_densities(
    folder: Path, bases: Mapping[int, str], electrons: Mapping[int, float]
) -> dict[int, RoundDensity] | None:
    """Valence densities of the elements, from the ``.pao`` files; None if one is missing.

    Parameters
    ----------
    folder, bases
        As in :func:`radial_functions`.
    electrons
        Valence electrons of each atomic number: OpenMX rescales the tables, which may be those
        of an ion.
    """
    found = {}
    for number, basis in bases.items():
        text = _pao(folder, basis)
        if text is None:
            return None
        logarithms, distances, values = _table(text, "valence.charge.density").T
        count = np.trapezoid(4.0 * np.pi * distances**3 * values, logarithms)
        values = values * (electrons[number] / count / BOHR_A**3)
        found[number] = RoundDensity(
            np.concatenate([[0.0], distances]) * BOHR_A, np.concatenate([values[:1], values])
        )
    return found


def _pao(folder: Path, basis: str) -> str | None:
    """Text of the file of a basis; None if it is missing."""
    path = folder / f"{basis.rpartition('-')[0]}.pao"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _table(text: str, name: str) -> Floats:
    inside = text.split(f"<{name}")[1].split(f"{name}>")[0]
    return np.array([[float(x) for x in line.split()] for line in inside.splitlines()[1:]])


def _order(degrees: tuple[int, ...]) -> Ints:
    """Index in OpenMX's order of each orbital in otf's order."""
    order: list[int] = []
    for degree in degrees:
        at = len(order)
        order += [at + m for m in _OURS[degree]]
    return np.array(order, dtype=np.int64)

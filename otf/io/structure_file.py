"""Reader of a single structure, with species that ASE does not know."""

import re
from io import StringIO
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from otf.errors import FileError

_ISOTOPES = {"D": 2.014101778, "T": 3.016049278}  # masses, u (AME2020)
_NUMBERED = re.compile(r"([A-Z][a-z]?)\d*(?:_\w+)?")
"""A species with a number or a suffix, such as O1 or Ti_pv."""


def read_structure(path: Path) -> Atoms:
    """Read the last structure of a file in any format of ASE.

    D and T are hydrogen with their masses, also in XYZ and POSCAR files, as are species with
    numbers, such as O1.

    Raises
    ------
    FileError
        If it cannot be read, or has sites that are partially occupied.
    """
    try:
        atoms = ase.io.read(path)
    except KeyError as error:
        if not _NUMBERED.fullmatch(str(error.args[0])):
            raise  # of something else than a species
        found = _with_plain_species(path)
        if found is None:
            raise FileError(
                f"there is no element {error}; write the element's symbol, and the mass of an "
                "isotope as system.masses: {H: 2.014}"
            ) from error
        atoms = found
    assert isinstance(atoms, Atoms)
    _check_occupancy(atoms)
    return atoms


def _check_occupancy(atoms: Atoms) -> None:
    """Refuse sites that several species share: ASE would take one of them."""
    for site in atoms.info.get("occupancy", {}).values():
        if min(site.values()) < 1.0:
            shares = ", ".join(f"{symbol} {share:g}" for symbol, share in site.items())
            raise FileError(
                f"a site is partially occupied ({shares}); make an ordered structure of it, for "
                "example a random one in a larger cell"
            )


def _with_plain_species(path: Path) -> Atoms | None:
    """The structure with the elements of its species; None if they are not understood."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix in (".xyz", ".extxyz"):
        return _xyz(lines)
    if path.name.startswith(("POSCAR", "CONTCAR")) or path.suffix in (".vasp", ".poscar"):
        return _poscar(lines)
    return None


def _xyz(lines: list[str]) -> Atoms | None:
    count = int(lines[0])
    columns = re.search(r"Properties=(\w+)", lines[1])
    if columns is not None and columns.group(1) != "species":
        return None
    names = [row.split()[0] for row in lines[2 : 2 + count]]
    symbols = _elements(names)
    if symbols is None:
        return None
    rows = [
        row.replace(name, symbol, 1)
        for row, name, symbol in zip(lines[2:], names, symbols, strict=False)
    ]
    atoms = ase.io.read(StringIO("\n".join([*lines[:2], *rows]) + "\n"), format="extxyz")
    return _with_isotopes(atoms, names)


def _poscar(lines: list[str]) -> Atoms | None:
    names = lines[5].split()
    symbols = _elements(names)
    if symbols is None:
        return None
    lines[0] = lines[5] = " ".join(symbols)
    atoms = ase.io.read(StringIO("\n".join(lines) + "\n"), format="vasp")
    return _with_isotopes(atoms, np.repeat(names, [int(n) for n in lines[6].split()]).tolist())


def _elements(names: list[str]) -> list[str] | None:
    """Symbols of the elements of these species; None if one has none."""
    from ase.data import atomic_numbers

    found = [_NUMBERED.fullmatch(name) for name in names]
    symbols = [
        "" if match is None else "H" if match.group(1) in _ISOTOPES else match.group(1)
        for match in found
    ]
    return symbols if all(symbol in atomic_numbers for symbol in symbols) else None


def _with_isotopes(atoms: Atoms, names: list[str]) -> Atoms:
    if set(names) & _ISOTOPES.keys():
        masses = atoms.get_masses()
        for i, name in enumerate(names):
            masses[i] = _ISOTOPES.get(name, masses[i])
        atoms.set_masses(masses)
    return atoms

"""Structures in a SIESTA input file.

Manual, section "Structural information". SIESTA 4.1 has its own value of the bohr.
"""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry import cellpar_to_cell

from otf.arrays import Floats
from otf.engines.input_deck import Deck
from otf.errors import EngineError
from otf_siesta.output import BOHR_A

_LENGTH_A = {"bohr": BOHR_A, "ang": 1.0, "nm": 10.0, "cm": 1e8, "m": 1e10}
_SCALES = {
    "bohr": "bohr",
    "notscaledcartesianbohr": "bohr",
    "ang": "ang",
    "notscaledcartesianang": "ang",
    "latticeconstant": "lattice",
    "scaledcartesian": "lattice",
    "fractional": "fractional",
    "scaledbylatticevectors": "fractional",
}
_NOT_READ = ("SuperCell", "Zmatrix")
_REPLACED = ("LatticeParameters", "AtomicCoordinatesOrigin", *_NOT_READ)


def species_elements(deck: Deck) -> dict[str, str]:
    """Element of each species label, in the order of their numbers.

    Raises
    ------
    EngineError
        If the block is missing or a species is not an element with its nucleus.
    """
    block = deck.block("ChemicalSpeciesLabel")
    if block is None:
        raise EngineError(f"{deck.source}: has no block ChemicalSpeciesLabel")
    rows = {}
    for line in block:
        words = line.split()
        try:
            number, nucleus, label = int(words[0]), int(words[1]), words[2]
        except (ValueError, IndexError):
            raise EngineError(
                f"{deck.source}: ChemicalSpeciesLabel: '{line}' is not 'number Z label'"
            ) from None
        if not 0 < nucleus < len(chemical_symbols):
            raise EngineError(
                f"{deck.source}: ChemicalSpeciesLabel: '{line}': otf moves real elements only, no "
                "ghosts and no synthetic atoms"
            )
        rows[number] = (label, chemical_symbols[nucleus])
    return dict(rows[number] for number in sorted(rows))


def species_of_atoms(deck: Deck) -> list[str]:
    """Species label of each atom of the input file; empty where there are none."""
    rows = [line.split() for line in deck.block("AtomicCoordinatesAndAtomicSpecies") or ()]
    labels = list(species_elements(deck))
    try:
        return [labels[int(row[3]) - 1] for row in rows]
    except (ValueError, IndexError) as error:
        raise _unreadable(deck, error) from error


def read_structure(deck: Deck) -> Atoms:
    """The structure of an input file, periodic in three directions, with its masses.

    Raises
    ------
    EngineError
        If it is missing, incomplete, or given in a way otf does not support.
    """
    for name in _NOT_READ:
        if deck.block(name) is not None:
            raise EngineError(
                f"{deck.source}: {name} is not read; give otf the whole structure with "
                "system.structure instead of system.from"
            )
    elements = species_elements(deck)
    labels = species_of_atoms(deck)
    if not labels:
        raise EngineError(f"{deck.source}: has no block AtomicCoordinatesAndAtomicSpecies")
    constant = _length(deck, "LatticeConstant")
    if constant is None:
        raise EngineError(
            f"{deck.source}: has no LatticeConstant; otf does not assume a cell: add it"
        )
    lines = deck.block("AtomicCoordinatesAndAtomicSpecies") or ()
    try:
        cell = constant * _cell(deck)
        given = np.array([[float(x) for x in line.split()[:3]] for line in lines])
    except ValueError as error:
        raise _unreadable(deck, error) from error
    kind = (deck.value("AtomicCoordinatesFormat") or "bohr").lower()
    if kind not in _SCALES:
        raise EngineError(f"{deck.source}: AtomicCoordinatesFormat {kind} is not one of SIESTA's")
    scale = {"bohr": BOHR_A, "ang": 1.0, "lattice": constant}.get(_SCALES[kind])
    positions = given @ cell if scale is None else given * scale
    atoms = Atoms([elements[name] for name in labels], positions=positions, cell=cell, pbc=True)
    _set_masses(deck, atoms, labels, list(elements))
    return atoms


def _unreadable(deck: Deck, error: Exception) -> EngineError:
    return EngineError(f"{deck.source}: the structure cannot be read ({error})")


def _length(deck: Deck, name: str) -> float | None:
    """A length in Angstrom; without a unit it is in bohr."""
    words = (deck.value(name) or "").split()
    if not words:
        return None
    unit = words[1].lower() if len(words) > 1 else "bohr"
    try:
        return float(words[0]) * _LENGTH_A[unit]
    except (ValueError, KeyError):
        raise EngineError(
            f"{deck.source}: {name} {' '.join(words)} is not a length in {', '.join(_LENGTH_A)}"
        ) from None


def _cell(deck: Deck) -> Floats:
    """Cell vectors in units of the lattice constant."""
    vectors, parameters = deck.block("LatticeVectors"), deck.block("LatticeParameters")
    if vectors is not None:
        cell = np.array([[float(x) for x in line.split()[:3]] for line in vectors])
    elif parameters is not None:
        cell = np.asarray(cellpar_to_cell([float(x) for x in parameters[0].split()[:6]]))
    else:
        cell = np.eye(3)
    if cell.shape != (3, 3):
        raise ValueError("there are not three lattice vectors")
    return cell


def _set_masses(deck: Deck, atoms: Atoms, labels: list[str], order: list[str]) -> None:
    masses = atoms.get_masses()
    for line in deck.block("AtomicMass") or ():
        number, mass = line.split()[:2]
        masses[[name == order[int(number) - 1] for name in labels]] = float(mass)
    atoms.set_masses(masses)


def write_structure(deck: Deck, atoms: Atoms, species: Sequence[str]) -> None:
    """Write a structure to a deck, in Angstrom and with full precision.

    Parameters
    ----------
    species
        Species label of each atom, as in ChemicalSpeciesLabel.
    """
    for name in _REPLACED:
        deck.drop(name)
    number = {label: i for i, label in enumerate(species_elements(deck), start=1)}
    deck.put("NumberOfAtoms", len(atoms))
    deck.put("LatticeConstant", "1.0 Ang")
    deck.put_block("LatticeVectors", [_row(vector) for vector in atoms.cell.tolist()])
    deck.put("AtomicCoordinatesFormat", "Ang")
    deck.put_block(
        "AtomicCoordinatesAndAtomicSpecies",
        [
            f"{_row(position)} {number[label]}"
            for position, label in zip(atoms.positions.tolist(), species, strict=True)
        ],
    )


def _row(vector: Sequence[float]) -> str:
    return " " + " ".join(f"{x:.16e}" for x in vector)

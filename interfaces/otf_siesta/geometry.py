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
from otf_siesta import zmatrix
from otf_siesta.output import BOHR_A
from otf_siesta.values import LENGTH_A, quantity, real, whole, words_of

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
_BLOCK = "AtomicCoordinatesAndAtomicSpecies"
_REPLACED = ("LatticeParameters", "AtomicCoordinatesOrigin", "SuperCell", zmatrix.BLOCK)


def species(deck: Deck) -> dict[int, tuple[str, int]]:
    """Label and atomic number of each species, by its number; that of a ghost is negative.

    Raises
    ------
    EngineError
        If the block is missing or cannot be read.
    """
    block = deck.block("ChemicalSpeciesLabel")
    if block is None:
        raise EngineError(f"{deck.source}: has no block ChemicalSpeciesLabel")
    rows = {}
    for line in block:
        words = words_of(line)
        try:
            rows[int(words[0])] = (words[2], int(words[1]))
        except (ValueError, IndexError):
            raise EngineError(
                f"{deck.source}: ChemicalSpeciesLabel: '{line}' is not 'number Z label'"
            ) from None
    return dict(sorted(rows.items()))


def pseudopotentials(deck: Deck) -> dict[str, str]:
    """Files of pseudopotentials by species label, where the input names one (SIESTA 5)."""
    rows = [words_of(line) for line in deck.block("ChemicalSpeciesLabel") or ()]
    return {words[2]: words[3] for words in rows if len(words) > 3}


def species_elements(deck: Deck) -> dict[str, str]:
    """Element of each species label, in the order of their numbers, without ghosts.

    Raises
    ------
    EngineError
        If the block is missing or cannot be read.
    """
    return {
        label: chemical_symbols[nucleus]
        for label, nucleus in species(deck).values()
        if 0 < nucleus < len(chemical_symbols)
    }


def species_of_sites(deck: Deck) -> list[str]:
    """Species label of each atom and ghost of the input file; empty where there are none.

    Raises
    ------
    EngineError
        If the structure cannot be read, or an atom is synthetic.
    """
    return labels_of(deck, _species_numbers(deck)) * int(np.prod(_supercell(deck)))


def labels_of(deck: Deck, numbers: Sequence[str]) -> list[str]:
    """Labels of atoms and ghosts by the numbers of their species.

    Raises
    ------
    EngineError
        If a species is not there or synthetic.
    """
    known = species(deck)
    try:
        found = [known[int(number)] for number in numbers]
    except (ValueError, KeyError) as error:
        raise _unreadable(deck, error) from error
    for label, nucleus in found:
        if nucleus >= len(chemical_symbols):
            raise EngineError(
                f"{deck.source}: an atom is of species {label}, which is synthetic (Z {nucleus}); "
                "otf moves elements only"
            )
    return [label for label, _ in found]


def symbols_of(deck: Deck, labels: Sequence[str]) -> list[str]:
    """Chemical symbols of sites by their labels; X for ghosts."""
    elements = species_elements(deck)
    return [elements.get(label, "X") for label in labels]


def _species_numbers(deck: Deck) -> list[str]:
    """Numbers of the species of the sites, as words."""
    if deck.block(zmatrix.BLOCK) is None:
        return [words[3] for words in _rows(deck)]
    numbers, expected = zmatrix.species_numbers(deck), whole(deck, "NumberOfAtoms")
    if expected is not None and expected != len(numbers):
        raise EngineError(
            f"{deck.source}: NumberOfAtoms is {expected}, but {zmatrix.BLOCK} has {len(numbers)} "
            "atoms; correct one of them"
        )
    return numbers


def _rows(deck: Deck) -> list[list[str]]:
    """Words of the rows of the atoms; SIESTA reads NumberOfAtoms of them."""
    lines = deck.block(_BLOCK) or ()
    number = whole(deck, "NumberOfAtoms")
    if number is not None and number > len(lines) > 0:
        raise EngineError(
            f"{deck.source}: NumberOfAtoms is {number}, but {_BLOCK} has {len(lines)} rows; "
            "correct one of them"
        )
    rows = [words_of(line) for line in lines[:number]]
    if any(len(row) < 4 for row in rows):
        raise EngineError(f"{deck.source}: {_BLOCK}: a row is not 'x y z species'")
    return rows


def read_structure(deck: Deck) -> Atoms:
    """The structure in the blocks of an input file, with its masses; ghosts are of element X.

    It is periodic in three directions, or without a cell if the file has no lattice constant.

    Raises
    ------
    EngineError
        If it is missing, incomplete, or given in a way otf does not support.
    """
    labels, repeats = species_of_sites(deck), _supercell(deck)
    if not labels:
        raise EngineError(f"{deck.source}: has no block {_BLOCK}")
    constant, cell = quantity(deck, "LatticeConstant", LENGTH_A, "bohr"), cell_of(deck)
    if deck.block(zmatrix.BLOCK) is None:
        positions = _positions(deck, constant=constant, cell=cell)
    elif max(repeats) == 1:
        positions = zmatrix.positions(deck, constant=constant, cell=cell)
    else:
        raise EngineError(f"{deck.source}: SIESTA refuses SuperCell with {zmatrix.BLOCK}, too")
    if cell is not None:
        # SIESTA counts the cells with the first vector fastest.
        shifts = np.indices(repeats[::-1]).reshape(3, -1).T[:, ::-1] @ cell
        positions = (positions + shifts[:, None, :]).reshape(-1, 3)
        cell = cell * np.array(repeats)[:, None]
    atoms = Atoms(symbols_of(deck, labels), positions=positions, cell=cell, pbc=cell is not None)
    set_masses(deck, atoms, labels)
    return atoms


def _positions(deck: Deck, *, constant: float | None, cell: Floats | None) -> Floats:
    """Positions of the rows of the atoms, (N, 3) Angstrom."""
    kind = _SCALES.get((deck.value("AtomicCoordinatesFormat") or "bohr").split()[0].lower())
    if kind is None:
        raise EngineError(
            f"{deck.source}: AtomicCoordinatesFormat {deck.value('AtomicCoordinatesFormat')} is "
            "not one of SIESTA's"
        )
    if constant is None and kind in ("lattice", "fractional"):
        raise EngineError(
            f"{deck.source}: AtomicCoordinatesFormat {kind} needs a LatticeConstant; add it"
        )
    origin = words_of((deck.block("AtomicCoordinatesOrigin") or ("0 0 0",))[0])
    try:
        coordinates = np.array([[real(x) for x in words[:3]] for words in _rows(deck)])
        coordinates += [real(x) for x in origin[:3]]
    except ValueError as error:
        raise _unreadable(deck, error) from error
    scale = {"bohr": BOHR_A, "ang": 1.0, "lattice": constant}.get(kind)
    return np.asarray(coordinates @ cell if scale is None else coordinates * scale)


def _supercell(deck: Deck) -> tuple[int, int, int]:
    """Repetitions along the three vectors; none without a cell, as in SIESTA."""
    block = deck.block("SuperCell")
    if block is None or deck.value("LatticeConstant") is None:
        return (1, 1, 1)
    try:
        matrix = np.array([[int(x) for x in words_of(line)[:3]] for line in block[:3]])
        if matrix.shape != (3, 3):
            raise ValueError("SuperCell has not three rows of three")
    except ValueError as error:
        raise _unreadable(deck, error) from error
    a, b, c = np.diag(matrix).tolist()
    if min(a, b, c) < 1 or np.count_nonzero(matrix) > 3:
        raise EngineError(
            f"{deck.source}: SuperCell is not diagonal, which SIESTA refuses, too; give the "
            "repeated structure"
        )
    return a, b, c


def _unreadable(deck: Deck, error: Exception) -> EngineError:
    return EngineError(f"{deck.source}: the structure cannot be read ({error})")


def _cell(deck: Deck) -> Floats:
    """Cell vectors in units of the lattice constant."""
    vectors, parameters = deck.block("LatticeVectors"), deck.block("LatticeParameters")
    if vectors is not None:
        cell = np.array([[real(x) for x in words_of(line)[:3]] for line in vectors[:3]])
    elif parameters is not None:
        cell = np.asarray(cellpar_to_cell([real(x) for x in words_of(parameters[0])[:6]]))
    else:
        cell = np.eye(3)
    if cell.shape != (3, 3):
        raise ValueError("there are not three lattice vectors")
    return cell


def cell_of(deck: Deck) -> Floats | None:
    """The cell (3, 3) of an input file, Angstrom; None if it has no lattice constant.

    Raises
    ------
    EngineError
        If it cannot be read.
    """
    constant = quantity(deck, "LatticeConstant", LENGTH_A, "bohr")
    try:
        return None if constant is None else np.asarray(constant * _cell(deck))
    except ValueError as error:
        raise _unreadable(deck, error) from error


def set_masses(deck: Deck, atoms: Atoms, labels: Sequence[str]) -> None:
    """Set the masses that the input gives.

    Raises
    ------
    EngineError
        If the block cannot be read.
    """
    masses = atoms.get_masses()
    known = species(deck)
    for line in deck.block("AtomicMass") or ():
        words = words_of(line)
        try:
            masses[[name == known[int(words[0])][0] for name in labels]] = real(words[1])
        except (ValueError, IndexError, KeyError) as error:
            raise EngineError(f"{deck.source}: AtomicMass: '{line}' cannot be read") from error
    atoms.set_masses(masses)


def write_structure(deck: Deck, atoms: Atoms, labels: Sequence[str]) -> None:
    """Write a structure to a deck, in Angstrom and with full precision.

    Parameters
    ----------
    labels
        Species label of each atom, as in ChemicalSpeciesLabel.
    """
    for name in _REPLACED:
        deck.drop(name)
    number = {label: i for i, (label, _) in species(deck).items()}
    deck.put("NumberOfAtoms", len(atoms))
    deck.put("LatticeConstant", "1.0 Ang")
    deck.put_block("LatticeVectors", [_row(vector) for vector in atoms.cell.tolist()])
    deck.put("AtomicCoordinatesFormat", "Ang")
    deck.put_block(
        "AtomicCoordinatesAndAtomicSpecies",
        [
            f"{_row(position)} {number[label]}"
            for position, label in zip(atoms.positions.tolist(), labels, strict=True)
        ],
    )


def _row(vector: Sequence[float]) -> str:
    return " " + " ".join(f"{x:.16e}" for x in vector)

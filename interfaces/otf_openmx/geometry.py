"""Structures in an OpenMX input file."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from otf.engines.input_deck import Deck
from otf.errors import EngineError
from otf_openmx.output import BOHR_A

_UNIT_A = {"ang": 1.0, "au": BOHR_A}


def species_elements(deck: Deck) -> dict[str, str]:
    """Element of each species name, by its pseudopotential (``C_PBE19`` is carbon).

    Raises
    ------
    EngineError
        If the block is missing or the element of a species cannot be determined.
    """
    block = deck.block("Definition.of.Atomic.Species")
    if block is None:
        raise EngineError(f"{deck.source}: has no block Definition.of.Atomic.Species")
    out = {}
    for line in block:
        words = line.split()
        element = words[2].split("_")[0] if len(words) == 3 else ""
        if element not in atomic_numbers:
            raise EngineError(
                f"{deck.source}: Definition.of.Atomic.Species: '{line}' is not 'name basis "
                "pseudopotential' of an element"
            )
        out[words[0]] = element
    return out


def read_structure(deck: Deck) -> Atoms:
    """The structure of an input file, periodic in three directions.

    Raises
    ------
    EngineError
        If it is missing or incomplete.
    """
    elements = species_elements(deck)
    rows = [line.split() for line in deck.block("Atoms.SpeciesAndCoordinates") or ()]
    vectors = [line.split() for line in deck.block("Atoms.UnitVectors") or ()]
    if not rows:
        raise EngineError(f"{deck.source}: has no block Atoms.SpeciesAndCoordinates")
    if len(vectors) != 3:
        raise EngineError(
            f"{deck.source}: does not have three Atoms.UnitVectors; otf does not assume a cell: "
            "add them"
        )
    try:
        cell = np.array(vectors, dtype=float) * _scale(deck, "Atoms.UnitVectors.Unit")
        names = [elements[row[1]] for row in rows]
        positions = np.array([[float(x) for x in row[2:5]] for row in rows])
    except (ValueError, IndexError, KeyError) as error:
        raise EngineError(f"{deck.source}: the structure cannot be read ({error})") from error
    unit = (deck.value("Atoms.SpeciesAndCoordinates.Unit") or "Ang").lower()
    if unit == "frac":
        return Atoms(names, scaled_positions=positions, cell=cell, pbc=True)
    scale = _scale(deck, "Atoms.SpeciesAndCoordinates.Unit")
    return Atoms(names, positions=positions * scale, cell=cell, pbc=True)


def _scale(deck: Deck, keyword: str) -> float:
    unit = (deck.value(keyword) or "Ang").lower()
    if unit not in _UNIT_A:
        raise EngineError(f"{deck.source}: {keyword} {unit} is not Ang or AU")
    return _UNIT_A[unit]


def write_structure(
    deck: Deck, atoms: Atoms, species: list[str], densities: list[tuple[float, float]]
) -> None:
    """Write a structure to a deck, in Angstrom and with full precision.

    Parameters
    ----------
    species, densities
        Species name and initial up and down electrons of each atom.
    """
    deck.put("Atoms.Number", len(atoms))
    deck.put("Atoms.SpeciesAndCoordinates.Unit", "Ang")
    deck.put_block(
        "Atoms.SpeciesAndCoordinates",
        [
            f" {i} {name} {x:.16e} {y:.16e} {z:.16e} {up:g} {down:g}"
            for i, (name, (x, y, z), (up, down)) in enumerate(
                zip(species, atoms.positions.tolist(), densities, strict=True), start=1
            )
        ],
    )
    deck.put("Atoms.UnitVectors.Unit", "Ang")
    deck.put_block(
        "Atoms.UnitVectors",
        [" " + " ".join(f"{x:.16e}" for x in vector) for vector in atoms.cell.tolist()],
    )


def valence_electrons(pseudopotential: Path) -> float:
    """Number of valence electrons stated in a pseudopotential file (.vps).

    Raises
    ------
    EngineError
        If the file is missing or does not state it.
    """
    try:
        with pseudopotential.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split()
                if words and words[0] == "valence.electron":
                    return float(words[1])
    except OSError as error:
        raise EngineError(
            f"engine.data_path: {pseudopotential} cannot be read ({error.strerror}); data_path is "
            "the folder that holds PAO and VPS, such as DFT_DATA19"
        ) from error
    raise EngineError(f"{pseudopotential}: does not state valence.electron")

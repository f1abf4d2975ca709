"""Structures in an OpenMX input file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from otf.arrays import Floats
from otf.engines.input_deck import Deck
from otf.errors import EngineError
from otf_openmx.output import BOHR_A

_UNIT_A = {"ang": 1.0, "au": BOHR_A}
_MARGIN = 1.1
AFTER_POSITION = 5
"""Columns of a row of an atom up to its position: number, species, x, y, z."""

_EMPTY = "E"  # pseudopotential of species without an atom
_OF_ELEMENT = re.compile(r"([A-Z][a-z]?)\d*(_|$)")  # C_PBE19, N0


def species_elements(deck: Deck) -> dict[str, str]:
    """Element of each species name, by its pseudopotential: ``C_PBE19`` is carbon.

    Empty species, of pseudopotential ``E``, are left out.

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
        named = _OF_ELEMENT.match(words[2]) if len(words) in (3, 4) else None
        element = named.group(1) if named else ""
        if element == _EMPTY:
            continue
        if element not in atomic_numbers:
            raise EngineError(
                f"{deck.source}: Definition.of.Atomic.Species: '{line}' is not 'name basis "
                "pseudopotential' of an element, with or without its mass"
            )
        out[words[0]] = element
    return out


def _masses_u(deck: Deck) -> dict[str, float]:
    """Masses of the species that give one."""
    rows = [line.split() for line in deck.block("Definition.of.Atomic.Species") or ()]
    return {row[0]: float(row[3]) for row in rows if len(row) == 4}


@dataclass(frozen=True, eq=False)
class Sites:
    """Rows of ``Atoms.SpeciesAndCoordinates``.

    Attributes
    ----------
    rows
        Words of each row.
    positions
        (sites, 3), Angstrom.
    cell
        (3, 3), Angstrom; None if the file gives none.
    """

    rows: list[list[str]]
    positions: Floats
    cell: Floats | None

    def of(self, chosen: Sequence[int]) -> "Sites":
        """Some of the sites."""
        return Sites([self.rows[i] for i in chosen], self.positions[list(chosen)], self.cell)


def _sites(deck: Deck) -> Sites:
    """All sites of an input file."""
    rows = [line.split() for line in deck.block("Atoms.SpeciesAndCoordinates") or ()]
    if not rows:
        raise EngineError(f"{deck.source}: has no block Atoms.SpeciesAndCoordinates")
    number = (deck.value("Atoms.Number") or str(len(rows))).split()[0]
    if number != str(len(rows)):
        raise EngineError(
            f"{deck.source}: Atoms.Number is {number}, but Atoms.SpeciesAndCoordinates has "
            f"{len(rows)} rows; correct one of them"
        )
    cell = _cell(deck)
    fractional = _unit(deck, "Atoms.SpeciesAndCoordinates.Unit") == "frac"
    if fractional and cell is None:
        raise _no_cell(deck)
    try:
        given = np.array([[float(x) for x in row[2:5]] for row in rows])
        if given.shape != (len(rows), 3):
            raise ValueError("a row is not 'number species x y z'")
    except (ValueError, IndexError) as error:
        raise EngineError(f"{deck.source}: the structure cannot be read ({error})") from error
    if fractional:
        return Sites(rows, given @ cell, cell)
    return Sites(rows, given * _scale(deck, "Atoms.SpeciesAndCoordinates.Unit"), cell)


def _cell(deck: Deck) -> Floats | None:
    """The cell (3, 3) of an input file, Angstrom; None if it gives none."""
    vectors = [line.split() for line in deck.block("Atoms.UnitVectors") or ()]
    if not vectors:
        return None
    try:
        cell = np.array(vectors, dtype=float) * _scale(deck, "Atoms.UnitVectors.Unit")
    except ValueError as error:
        raise EngineError(f"{deck.source}: Atoms.UnitVectors cannot be read ({error})") from error
    if cell.shape != (3, 3):
        raise _no_cell(deck)
    return cell


def _no_cell(deck: Deck) -> EngineError:
    return EngineError(f"{deck.source}: does not have three Atoms.UnitVectors; add them")


def atom_rows(deck: Deck) -> list[int]:
    """Indices of the rows that are atoms, not empty sites.

    Raises
    ------
    EngineError
        If a row is of a species that is not defined.
    """
    elements, empty = species_elements(deck), _empty_species(deck)
    sites = _sites(deck)
    for row in sites.rows:
        if row[1] not in elements and row[1] not in empty:
            raise EngineError(
                f"{deck.source}: atom {row[0]} of Atoms.SpeciesAndCoordinates is of species "
                f"{row[1]}, which Definition.of.Atomic.Species does not define"
            )
    return [i for i, row in enumerate(sites.rows) if row[1] in elements]


def empty_sites(deck: Deck) -> Sites | None:
    """Sites of basis functions without an atom; None if there are none.

    Raises
    ------
    EngineError
        If there is no cell, by whose vectors they are fixed.
    """
    sites, atoms = _sites(deck), set(atom_rows(deck))
    chosen = [i for i in range(len(sites.rows)) if i not in atoms]
    if chosen and sites.cell is None:
        raise _no_cell(deck)
    return sites.of(chosen) if chosen else None


def read_structure(deck: Deck) -> Atoms:
    """The atoms of an input file with the masses it gives, without its empty sites.

    They are periodic in three directions, or without a cell if the file gives none.

    Raises
    ------
    EngineError
        If the structure is missing or incomplete.
    """
    elements, sites = species_elements(deck), _sites(deck).of(atom_rows(deck))
    periodic = {} if sites.cell is None else {"cell": sites.cell, "pbc": True}
    symbols = [elements[row[1]] for row in sites.rows]
    atoms = Atoms(symbols, positions=sites.positions, **periodic)
    masses_u = _masses_u(deck)
    usual = atoms.get_masses()
    atoms.set_masses([masses_u.get(r[1], m) for r, m in zip(sites.rows, usual, strict=True)])
    return atoms


def _empty_species(deck: Deck) -> set[str]:
    rows = [line.split() for line in deck.block("Definition.of.Atomic.Species") or ()]
    return {row[0] for row in rows if len(row) > 2 and row[2] == _EMPTY}


def _unit(deck: Deck, keyword: str) -> str:
    """The first word of a unit; OpenMX ignores what follows."""
    return (deck.value(keyword) or "Ang").split()[0].lower()


def _scale(deck: Deck, keyword: str) -> float:
    unit = _unit(deck, keyword)
    if unit not in _UNIT_A:
        raise EngineError(f"{deck.source}: {keyword} {unit} is not Ang or AU")
    return _UNIT_A[unit]


def cell_of_molecule(deck: Deck, atoms: Atoms) -> Floats | None:
    """The cell (3, 3), Angstrom, of a molecule for which the template stands.

    That of the template, or the one that OpenMX makes where there is none: 1.1 times the extent of
    the spheres of the basis functions. None if the basis files cannot be read.
    """
    given = _cell(deck)
    if given is not None:
        return given
    elements = species_elements(deck)
    reach = np.zeros(len(atoms))
    for row in map(str.split, deck.block("Definition.of.Atomic.Species") or ()):
        radius = _basis_radius(Path(str(deck.value("DATA.PATH"))) / "PAO", row[1])
        if radius is None:
            return None
        mine = [symbol == elements.get(row[0]) for symbol in atoms.symbols]
        reach[mine] = np.maximum(reach[mine], radius)
    low, high = atoms.positions - reach[:, None], atoms.positions + reach[:, None]
    return np.diag(_MARGIN * (high.max(axis=0) - low.min(axis=0)))


def _basis_radius(folder: Path, basis: str) -> float | None:
    """Cutoff radius of the basis functions (such as C6.0-s2p2d1), Angstrom."""
    try:
        text = (folder / f"{basis.split('-')[0]}.pao").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == "radial.cutoff.pao":
            return float(words[1]) * BOHR_A
    return None


def write_structure(
    deck: Deck,
    atoms: Atoms,
    species: list[str],
    states: list[str],
    empty: Sites | None = None,
) -> None:
    """Write a structure to a deck, in Angstrom and with full precision.

    Parameters
    ----------
    species
        Species name of each atom.
    states
        The rest of the row of each atom: initial up and down electrons, and what may follow them
        (angles of the spin and of the orbital moment, flags).
    empty
        Empty sites of the template, which follow the cell, after the atoms.
    """
    names, positions = list(species), atoms.positions
    if empty is not None:
        assert empty.cell is not None
        names += [row[1] for row in empty.rows]
        states = [*states, *(" ".join(row[AFTER_POSITION:]) for row in empty.rows)]
        followed = empty.positions @ np.linalg.inv(empty.cell) @ atoms.cell.array
        positions = np.concatenate([positions, followed])
    deck.put("Atoms.Number", len(names))
    deck.put("Atoms.SpeciesAndCoordinates.Unit", "Ang")
    deck.put_block(
        "Atoms.SpeciesAndCoordinates",
        [
            f" {i} {name} {x:.16e} {y:.16e} {z:.16e} {state}"
            for i, (name, (x, y, z), state) in enumerate(
                zip(names, positions.tolist(), states, strict=True), start=1
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


def rows_of_atoms(deck: Deck) -> list[list[str]]:
    """Words of the rows of an input file that are atoms; empty if it has none."""
    block = deck.block("Atoms.SpeciesAndCoordinates")
    return [block[i].split() for i in atom_rows(deck)] if block else []


def initial_states(
    deck: Deck, species: list[str], valence: Mapping[str, float], *, spin: int
) -> list[str]:
    """Initial electrons of each atom with what follows them in its row of the template.

    Without such rows the electrons are evenly distributed.

    Raises
    ------
    EngineError
        If rows state more than electrons, but are not those of the atoms.
    """
    rows = rows_of_atoms(deck)
    if [row[1] for row in rows if len(row) > AFTER_POSITION + 1] == species:
        return [" ".join(row[AFTER_POSITION:]) for row in rows]
    if any(len(row) > AFTER_POSITION + 2 for row in rows):
        raise EngineError(
            f"{deck.source}: Atoms.SpeciesAndCoordinates has columns after the electrons "
            "(angles of spins, flags), but its atoms are not those of the run in their order; "
            "take the structure from it (system.from), or remove the columns"
        )
    electrons = [valence[name] for name in species]
    tilt = spin / max(1.0, sum(electrons))
    return [f"{0.5 * n * (1.0 + tilt):g} {0.5 * n * (1.0 - tilt):g}" for n in electrons]

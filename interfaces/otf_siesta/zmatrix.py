"""Structures given as a Z-matrix in a SIESTA input file.

Manual, section "Z-matrix format". The block has sections of molecules, whose atoms are given by
distance, angle and torsion relative to earlier atoms of the molecule, sections of Cartesian rows,
and sections that give values to the names in them. Which coordinates are fixed matters to SIESTA's
relaxations only, and is not read.

========================  =====================================================================
quantity                  code
========================  =====================================================================
atom m on i, j, k         :func:`_placed`: r_i - d cos(a) u + d sin(a) (cos(t) p + sin(t) n),
                          with u = (r_i - r_j) / abs, n = u x (r_k - r_j) / abs, p = n x u
second atom               spherical coordinates about the first
third atom                as any other, with r_k = r_i - e_theta: the torsion is from the z axis
========================  =====================================================================
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from otf.arrays import Floats
from otf.engines.input_deck import Deck
from otf.errors import EngineError
from otf_siesta.output import BOHR_A
from otf_siesta.values import real, words_of

BLOCK = "Zmatrix"

_LENGTHS_A = {"bohr": BOHR_A, "ang": 1.0, "angstrom": 1.0}
_ANGLES = {"rad": 1.0, "radians": 1.0, "deg": math.pi / 180, "degrees": math.pi / 180}
_ALIGNED = 1e-8  # bohr; SIESTA takes the azimuth of a bond from the Z-matrix if x or y is smaller


class _Row(NamedTuple):
    """An atom: numbers of the atoms of its molecule it refers to, and its three coordinates."""

    species: str
    related: tuple[int, ...]
    coordinates: tuple[str, ...]


@dataclass
class _Section:
    """Atoms of a molecule, or Cartesian atoms, and the scale of the coordinates."""

    molecule: bool
    scale: str
    rows: list[_Row] = field(default_factory=list)


def species_numbers(deck: Deck) -> list[str]:
    """Numbers of the species of the atoms, as words.

    Raises
    ------
    EngineError
        If the block cannot be read.
    """
    return [row.species for section in _read(deck)[0] for row in section.rows]


def positions(deck: Deck, *, constant: float | None, cell: Floats | None) -> Floats:
    """Positions of the atoms (N, 3), Angstrom.

    Parameters
    ----------
    constant, cell
        Lattice constant, Angstrom, and cell vectors (3, 3), for coordinates relative to them.

    Raises
    ------
    EngineError
        If the block cannot be read, or refers to atoms or names that are not there.
    """
    sections, values = _read(deck)
    length = _unit(deck, "ZM.UnitsLength", _LENGTHS_A, "bohr")
    angle = _unit(deck, "ZM.UnitsAngle", _ANGLES, "rad")
    first, *_ = deck.block("AtomicCoordinatesOrigin") or ("0 0 0",)
    found: list[Floats] = []
    try:
        # SIESTA adds the origin to Cartesian coordinates after their conversion to bohr.
        origin = BOHR_A * np.array([real(word) for word in words_of(first)[:3]])
        cartesian: dict[str, Callable[[Floats], Floats]] = {"": lambda x: x * length + origin}
        if constant is not None and cell is not None:
            cartesian |= {"scale": lambda x: x * constant, "frac": lambda x: x @ cell}
        for section in sections:
            if section.scale not in cartesian:
                raise EngineError(
                    f"{deck.source}: {BLOCK}: coordinates relative to the cell need a "
                    "LatticeConstant; add it"
                )
            place = cartesian[section.scale]
            numbers = [_numbers(row, values) for row in section.rows]
            if section.molecule:
                internal = [np.array([d * length, a * angle, t * angle]) for d, a, t in numbers]
                found += _molecule(section.rows, place(numbers[0]), internal)
            else:
                found += [place(row) for row in numbers]
    except (ValueError, KeyError, IndexError) as error:
        raise EngineError(f"{deck.source}: {BLOCK} cannot be read ({error})") from error
    return np.array(found)


def _unit(deck: Deck, key: str, units: dict[str, float], default: str) -> float:
    name = (deck.value(key) or default).split()[0].lower()
    if name not in units:
        raise EngineError(f"{deck.source}: {key} {name} is not one of {', '.join(units)}")
    return units[name]


def _numbers(row: _Row, values: dict[str, float]) -> Floats:
    """The coordinates of a row, with the values of names."""
    return np.array([_number(word, values) for word in row.coordinates])


def _number(word: str, values: dict[str, float]) -> float:
    if word.lower() in values:
        return values[word.lower()]
    try:
        return real(word)
    except ValueError:
        raise ValueError(f"'{word}' has no value") from None


def _read(deck: Deck) -> tuple[list[_Section], dict[str, float]]:
    """Sections of atoms, and values by name in lower case."""
    sections: list[_Section] = []
    values: dict[str, float] = {}
    kind = ""
    for line in deck.block(BLOCK) or ():
        lower = line.lower()
        heading = next((word for word in _HEADINGS if word in lower), None)
        try:
            if heading in _VALUES:
                kind = heading or ""
            elif heading is not None:
                kind = "atoms"
                scale = next((s for s in ("scale", "frac") if s in lower), "")
                sections.append(_Section(heading == "molecule", scale))
            elif kind == "atoms":
                sections[-1].rows.append(_row(words_of(line), sections[-1].molecule))
            elif kind == "constraint":
                name, other, factor, shift = words_of(line)[:4]
                values[name.lower()] = real(factor) * values[other.lower()] + real(shift)
            elif kind:
                name, value = words_of(line)[:2]
                values[name.lower()] = real(value)
        except (ValueError, KeyError) as error:
            raise EngineError(f"{deck.source}: {BLOCK}: '{line}' cannot be read") from error
    return sections, values


_VALUES = ("constant", "variable", "constraint")
_HEADINGS = ("molecule", "cart", "scale", "frac", *_VALUES)


def _row(words: Sequence[str], molecule: bool) -> _Row:
    before = 4 if molecule else 1
    row = _Row(words[0], tuple(int(x) for x in words[1:before]), tuple(words[before : before + 3]))
    if len(row.coordinates) < 3:
        raise ValueError("a row has not enough columns")
    return row


def _molecule(rows: Sequence[_Row], first: Floats, internal: Sequence[Floats]) -> list[Floats]:
    """Positions of the atoms of a molecule; distances in Angstrom, angles in radians."""
    atoms = [first]
    for number, (row, coordinates) in enumerate(zip(rows, internal, strict=True)):
        if number == 0:
            continue
        related = [int(index) - 1 for index in row.related[: min(number, 3)]]
        if min(related) < 0 or max(related) >= number or len(set(related)) < len(related):
            raise ValueError(f"atom {number + 1} of a molecule needs different earlier atoms")
        i, *others = related
        if number == 1:
            atoms.append(atoms[i] + coordinates[0] * _radial(*coordinates[1:].tolist()))
            continue
        j = others[0]
        if number == 2:
            azimuth = internal[1][2] if i == 1 else internal[1][2] - math.pi
            k = atoms[i] - _polar(atoms[i] - atoms[j], azimuth)
        else:
            k = atoms[others[1]]
        atoms.append(_placed((atoms[i], atoms[j], k), coordinates))
    return atoms


def _placed(related: tuple[Floats, Floats, Floats], internal: Floats) -> Floats:
    """Position of an atom bonded to i: distance, angle at i to j, torsion to k."""
    (i, j, k), (distance, angle, torsion) = related, internal
    u = _unit_vector(i - j)
    n = _unit_vector(np.cross(u, k - j))
    p = np.cross(n, u)
    across = math.cos(torsion) * p + math.sin(torsion) * n
    return np.asarray(i + distance * (math.sin(angle) * across - math.cos(angle) * u))


def _unit_vector(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector))
    if not length > 0.0:
        raise ValueError("atoms that define an angle are at the same place or on a line")
    return np.asarray(vector / length)


def _radial(polar: float, azimuth: float) -> Floats:
    """The unit vector at a polar angle and an azimuth."""
    s = math.sin(polar)
    return np.array([s * math.cos(azimuth), s * math.sin(azimuth), math.cos(polar)])


def _polar(bond: Floats, azimuth: float) -> Floats:
    """The unit vector along which the polar angle of a bond grows.

    The azimuth counts if that of the bond is not certain.
    """
    x, y, z = bond.tolist()
    if min(abs(x), abs(y)) > _ALIGNED * BOHR_A:
        azimuth = math.atan2(y, x)
    polar = math.acos(z / float(np.linalg.norm(bond)))
    c = math.cos(polar)
    return np.array([c * math.cos(azimuth), c * math.sin(azimuth), -math.sin(polar)])

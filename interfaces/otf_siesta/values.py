"""Numbers, words and physical quantities of a SIESTA input file.

Manual, section "The flexible data format", and ``fdf/units.f90``. Numbers may have a Fortran
exponent (``1.0d0``); blanks, ``=``, ``:`` and ``,`` separate words.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from otf.engines.input_deck import Deck
from otf.errors import EngineError
from otf_siesta.output import BOHR_A

SEPARATORS = "=:, \t"
"""Characters between words."""

_EXPONENT = re.compile(r"(?<=[\d.])[dD](?=[+-]?\d)")

LENGTH_A: Mapping[str, float] = MappingProxyType(
    {"bohr": BOHR_A, "ang": 1.0, "nm": 10.0, "pm": 0.01, "cm": 1e8, "m": 1e10}
)
TIME_FS: Mapping[str, float] = MappingProxyType({"fs": 1.0, "ps": 1e3, "ns": 1e6, "s": 1e15})
TEMPERATURE_K: Mapping[str, float] = MappingProxyType({"k": 1.0})
PRESSURE_GPA: Mapping[str, float] = MappingProxyType(
    {
        "pa": 1e-9,
        "gpa": 1.0,
        "atm": 1.01325e-4,
        "bar": 1e-4,
        "mbar": 100.0,
        "ev/ang**3": 160.219,
        "ev/ang^3": 160.219,
        "ry/bohr**3": 14710.8,
        "ry/bohr^3": 14710.8,
    }
)


def words_of(line: str) -> list[str]:
    """Words of a line."""
    return re.sub(f"[{SEPARATORS}]", " ", line).split()


def real(word: str) -> float:
    """A real number.

    >>> real("-1.5D-1"), real("8.")
    (-0.15, 8.0)
    """
    return float(_EXPONENT.sub("e", word))


def quantity(deck: Deck, name: str, units: Mapping[str, float], default: str) -> float | None:
    """A physical quantity in the unit of the table; None if it is not given.

    Parameters
    ----------
    units
        Factors to the wanted unit, by names in lower case.
    default
        Name of SIESTA's unit where the file has none.

    Raises
    ------
    EngineError
        If it is not a number in one of the units.
    """
    words = words_of(deck.value(name) or "")
    if not words:
        return None
    try:
        return real(words[0]) * units[words[1].lower() if len(words) > 1 else default]
    except (ValueError, KeyError):
        raise EngineError(
            f"{deck.source}: {name} {' '.join(words)} is not a number in {', '.join(units)}"
        ) from None


def whole(deck: Deck, name: str) -> int | None:
    """A whole number; None if it is not given.

    Raises
    ------
    EngineError
        If it is something else.
    """
    words = words_of(deck.value(name) or "")
    if not words:
        return None
    try:
        return int(words[0])
    except ValueError:
        raise EngineError(f"{deck.source}: {name} {words[0]} is not a whole number") from None

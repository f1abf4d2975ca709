"""Constraints of the atoms in a SIESTA input file.

Manual, section "Constraints"; the block is ``Geometry.Constraints``, or the same without the dot. A
line fixes atoms, or one component of their positions; later lines can free them again.
"""

import re
from collections.abc import Iterable

import numpy as np
from ase import Atoms

from otf.engines.input_deck import Deck
from otf.engines.job import fix_components
from otf.errors import EngineError
from otf_siesta.geometry import species
from otf_siesta.values import real, words_of

_BLOCK = "GeometryConstraints"
_OF_CELL = (
    "stress", "cellangle", "cell-angle", "cellside", "cell-side", "cellvector", "cell-vector",
)  # fmt: skip
_LIST = re.compile(r"\[(.*?)\]")
_RANGE = re.compile(r"(-?\d+)\s*(?:--|to)\s*(-?\d+)(?:\s*(?:step)\s*(\d+))?", re.IGNORECASE)
_REAL = re.compile(r"[-+]?(\d+\.\d*|\.\d+)([eEdD][-+]?\d+)?")
_AXES = 1e-6  # largest component beside the axis that a direction is along


def constrain(deck: Deck, atoms: Atoms, labels: list[str]) -> list[str]:
    """Set the constraints of the input, and return them in words.

    Parameters
    ----------
    atoms, labels
        Structure with ghosts, and species labels of its sites.

    Raises
    ------
    EngineError
        If one has no equivalent.
    """
    fixed = np.zeros((len(atoms), 3), dtype=bool)
    before: list[tuple[list[int], list[bool]]] = []
    for line in deck.block(_BLOCK) or ():
        words = words_of(line)
        kind = words[0].lower()
        if kind in _OF_CELL:
            raise _no_equivalent(deck, line, "otf has no constraints of the cell")
        if kind in ("position", "atom", "species-i", "z"):
            mask = _direction(deck, line, words)
            numbers = _numbers(deck, line, 10**6 if kind in ("species-i", "z") else len(atoms))
            before.append((_atoms_named(deck, kind, numbers, atoms, labels), mask))
        elif kind in ("clear", "clear-previous", "clear-prev"):
            free = {n - 1 for n in _numbers(deck, line, len(atoms))}
            first = 0 if kind == "clear" else len(before) - 1
            before[first:] = [([i for i in a if i not in free], m) for a, m in before[first:]]
        else:
            raise _no_equivalent(deck, line, f"'{words[0]}' has no equivalent in otf")
    for indices, mask in before:
        fixed[indices] |= mask
    fixed[atoms.numbers == 0] = False  # ghosts, which do not move anyway
    return fix_components(atoms, fixed, _BLOCK) if before else []


def _no_equivalent(deck: Deck, line: str, why: str) -> EngineError:
    return EngineError(
        f"{deck.source}: {_BLOCK}: '{line}': {why}; give the structure with system.structure "
        "and its constraints with system.fixed_atoms"
    )


def _direction(deck: Deck, line: str, words: list[str]) -> list[bool]:
    """Components that a line fixes: all, or that along the axis it names."""
    reals = [real(word) for word in words[1:] if _REAL.fullmatch(word)]
    if not reals:
        return [True] * 3
    size = float(np.linalg.norm(reals))
    along = [abs(x) > _AXES * size for x in reals]
    if len(reals) != 3 or sum(along) != 1:
        raise _no_equivalent(deck, line, "only directions along x, y or z can be fixed")
    return along


def _numbers(deck: Deck, line: str, most: int) -> list[int]:
    """Numbers of a line, from 1: ``1 2 3``, ``from 1 to 3``, ``[1 -- 3, 7]``, ``all``.

    Negative ones count from the last, ``most``.
    """
    rest = line.split(maxsplit=1)[1] if len(line.split()) > 1 else ""
    if rest.lower().split()[:1] == ["all"]:
        return list(range(1, most + 1))
    rest = _REAL.sub(" ", rest)  # a direction
    listed = _LIST.search(rest)
    text = (listed.group(1) if listed else rest).lower().replace("from", " ")
    found: list[int] = []
    for match in _RANGE.finditer(text):
        ends = [int(n) + (most + 1 if int(n) < 0 else 0) for n in match.group(1, 2)]
        step = int(match.group(3) or 1)
        found += range(min(ends), max(ends) + 1, step)
    try:
        single = [int(word) for word in words_of(_RANGE.sub(" ", text))]
    except ValueError:
        raise _no_equivalent(deck, line, "its list of atoms cannot be read") from None
    found += [n + (most + 1 if n < 0 else 0) for n in single]
    if any(not 0 < n <= most for n in found) or not found:
        raise EngineError(f"{deck.source}: {_BLOCK}: '{line}' names atoms that are not there")
    return sorted(set(found))


def _atoms_named(
    deck: Deck, kind: str, numbers: Iterable[int], atoms: Atoms, labels: list[str]
) -> list[int]:
    """Indices of the atoms of a constraint, from 0."""
    chosen = set(numbers)
    if kind == "species-i":
        names = {label for i, (label, _) in species(deck).items() if i in chosen}
        return [i for i, label in enumerate(labels) if label in names]
    if kind == "z":
        return [i for i, z in enumerate(atoms.numbers) if int(z) in chosen]
    return [n - 1 for n in sorted(chosen)]

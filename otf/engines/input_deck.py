"""Input files of keywords and blocks: lookup, changes, and comparison with the original.

Engines derive from :class:`Deck` and implement the syntax of their program.
"""

import difflib
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from otf.errors import EngineError

_LOG = logging.getLogger("otf.input")


@dataclass(frozen=True)
class Entry:
    """A keyword with its value, or a block with its lines.

    Attributes
    ----------
    name
        As it is spelt in the file.
    lines
        Lines of a block, or the one value of a keyword.
    where
        File and line, such as ``job.dat:12``; empty for an added entry.
    is_block
        Whether it is a block.
    """

    name: str
    lines: tuple[str, ...]
    where: str
    is_block: bool


class Deck(ABC):
    """An input file; keywords match in every spelling that their program accepts.

    Parameters
    ----------
    entries
        Entries in the order of the file.
    source
        Name of the file, for messages.
    """

    program: ClassVar[str]
    """Name of the program, which silently ignores unknown keywords."""
    known: ClassVar[Mapping[str, str]]
    """Keywords of the program, by :meth:`key`."""
    retired: ClassVar[frozenset[str]] = frozenset()
    """Keywords that only earlier versions of the program had, by :meth:`key`."""
    free: ClassVar[tuple[str, ...]] = ()
    """Prefixes of names chosen by the user, by :meth:`key`."""

    def __init__(self, entries: list[Entry], source: str) -> None:
        self.source = source
        self._entries = {self.key(entry.name): entry for entry in entries}

    @staticmethod
    def key(name: str) -> str:
        """Normalise the spelling of a keyword."""
        return name.lower()

    @staticmethod
    @abstractmethod
    def written(entry: Entry) -> str:
        """Format an entry as the program reads it."""

    def value(self, name: str) -> str | None:
        """Value of a keyword, or None."""
        entry = self._entries.get(self.key(name))
        return None if entry is None or entry.is_block else entry.lines[0]

    def block(self, name: str) -> tuple[str, ...] | None:
        """Lines of a block, or None."""
        entry = self._entries.get(self.key(name))
        return entry.lines if entry is not None and entry.is_block else None

    def flag(self, name: str) -> bool:
        """Whether a switch is on."""
        word = (self.value(name) or "off").lower().strip(".")
        return word in ("on", "yes", "y", "true", "t")

    def put(self, name: str, value: object) -> None:
        """Set a keyword."""
        self._entries[self.key(name)] = Entry(name, (str(value),), "", is_block=False)

    def put_block(self, name: str, lines: list[str]) -> None:
        """Set a block."""
        self._entries[self.key(name)] = Entry(name, tuple(lines), "", is_block=True)

    def drop(self, name: str) -> None:
        """Remove a keyword or a block."""
        self._entries.pop(self.key(name), None)

    def switch_off(self, costly: Mapping[str, str | None], kept: Collection[str]) -> None:
        """Switch off what the file asks for and a label does not need.

        Parameters
        ----------
        costly
            Keywords with the value that switches them off; None to remove it.
        kept
            Keywords that stay as they are.
        """
        stay = {self.key(name) for name in kept}
        for name, off in costly.items():
            entry = self._entries.get(self.key(name))
            if entry is None or self.key(name) in stay:
                continue
            if off is None:
                self.drop(name)
            elif entry.lines[:1] != (off,):
                self.put(name, off)

    def text(self) -> str:
        """Text of the file."""
        return "\n".join(self.written(entry) for entry in self._entries.values()) + "\n"

    def method(self, others: Collection[str]) -> str:
        """Its keywords and blocks, except others that are not of the method, one per line.

        Parameters
        ----------
        others
            Names, or their beginnings followed by an asterisk.
        """
        names = {self.key(name) for name in others if not name.endswith("*")}
        starts = tuple(self.key(name[:-1]) for name in others if name.endswith("*"))
        lines = []
        for key, entry in sorted(self._entries.items()):
            if key not in names and not key.startswith(starts):
                words = " ".join(entry.lines).lower().split()
                lines.append(" ".join((key, *words)))
        return "\n".join(lines)

    def copy(self) -> Self:
        """Copy of the deck."""
        return type(self)(list(self._entries.values()), self.source)

    def changes_from(self, original: "Deck") -> list[str]:
        """Descriptions of the entries that were changed, added or removed since the original."""
        out = []
        for key, entry in self._entries.items():
            before = original._entries.get(key)
            if before is None:
                out.append(f"added: {entry.name}" + _shown(entry))
            elif before.lines != entry.lines:
                place = before.where or original.source
                out.append(f"{place}: {before.name}{_shown(before)} →{_shown(entry)}")
        for key, before in original._entries.items():
            if key not in self._entries:
                out.append(f"{before.where or original.source}: {before.name} left out")
        return out

    def unknown(self, allowed: Collection[str] = ()) -> list[str]:
        """Keywords the program would silently ignore, with what may be meant.

        Parameters
        ----------
        allowed
            Further keywords, supported by the user's version of the program.
        """
        passed = {self.key(name) for name in allowed}
        out = []
        for key, entry in self._entries.items():
            if key in self.known or key in passed or key in self.retired:
                continue
            if key.startswith(self.free):
                continue
            close = difflib.get_close_matches(key, self.known, n=1, cutoff=0.75)
            hint = f"; did you mean '{self.known[close[0]]}'?" if close else ""
            place = entry.where or self.source
            out.append(f"{place}: {self.program} has no keyword '{entry.name}'{hint}")
        return out

    def refuse_unknown(self, allowed: Collection[str]) -> None:
        """Raise if there are keywords that the program does not support.

        Those of earlier versions change nothing; they are only warned of.

        Raises
        ------
        EngineError
            Naming each keyword that it would ignore.
        """
        unknown = self.unknown(allowed)
        retired = [entry for key, entry in self._entries.items() if key in self.retired]
        if retired:
            names = ", ".join(entry.name for entry in retired)
            _LOG.warning(
                "%s: %s: keywords of earlier versions, which %s ignores",
                retired[0].where or self.source,
                names,
                self.program,
            )
        if unknown:
            remedy = "correct or remove it, or put it into engine.known_keywords if your version"
            raise EngineError(
                "\n".join([*unknown, f"{self.program} would ignore it: {remedy} has it"])
            )


def _shown(entry: Entry) -> str:
    return " (block)" if entry.is_block else f" {entry.lines[0]}"

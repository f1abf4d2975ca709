"""OpenMX input files: keywords and blocks, read, changed and written back."""

import difflib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from otf.errors import EngineError

# Names the input routines of OpenMX 3.9 ask for; it passes over any other without a word.
_KNOWN = {
    name.lower(): name
    for name in (files(__package__) / "keywords.txt").read_text(encoding="utf-8").split()
}


@dataclass(frozen=True)
class Entry:
    """A keyword with its value, or a block with its lines.

    Attributes
    ----------
    name
        As it is spelt in the file.
    lines
        Lines of a block, or the one value of a keyword.
    line
        Where it stands, counted from 1; 0 for what was added.
    is_block
        Whether it is written between ``<name`` and ``name>``.
    """

    name: str
    lines: tuple[str, ...]
    line: int
    is_block: bool

    def text(self) -> str:
        """As it is written."""
        if not self.is_block:
            return f"{self.name}  {self.lines[0]}"
        return "\n".join([f"<{self.name}", *self.lines, f"{self.name}>"])


class Deck:
    """An input file; keywords are found whatever their case, as OpenMX does.

    Parameters
    ----------
    entries
        In the order they stand.
    source
        Name for messages.
    """

    def __init__(self, entries: list[Entry], source: str) -> None:
        self.source = source
        self._entries = {entry.name.lower(): entry for entry in entries}

    def value(self, name: str) -> str | None:
        """Value of a keyword, or None."""
        entry = self._entries.get(name.lower())
        return None if entry is None or entry.is_block else entry.lines[0]

    def block(self, name: str) -> tuple[str, ...] | None:
        """Lines of a block, or None."""
        entry = self._entries.get(name.lower())
        return entry.lines if entry is not None and entry.is_block else None

    def flag(self, name: str) -> bool:
        """Whether a switch is on."""
        return (self.value(name) or "off").lower() in ("on", "yes", "true", ".true.")

    def put(self, name: str, value: object) -> None:
        """Set a keyword."""
        self._put(Entry(name, (str(value),), 0, is_block=False))

    def put_block(self, name: str, lines: list[str]) -> None:
        """Set a block."""
        self._put(Entry(name, tuple(lines), 0, is_block=True))

    def drop(self, name: str) -> None:
        """Leave a keyword or a block out."""
        self._entries.pop(name.lower(), None)

    def text(self) -> str:
        """The file."""
        return "\n".join(entry.text() for entry in self._entries.values()) + "\n"

    def copy(self) -> "Deck":
        """A deck to change."""
        return Deck(list(self._entries.values()), self.source)

    def changes_from(self, original: "Deck") -> list[str]:
        """Each line of the original that is another now, or gone, and each one that was added."""
        out = []
        for name, entry in self._entries.items():
            before = original._entries.get(name)
            if before is None:
                out.append(f"added: {entry.name}" + _shown(entry))
            elif before.lines != entry.lines:
                where = f"{original.source}:{before.line}"
                out.append(f"{where}: {before.name}{_shown(before)} →{_shown(entry)}")
        for name, before in original._entries.items():
            if name not in self._entries:
                out.append(f"{original.source}:{before.line}: {before.name} left out")
        return out

    def unknown(self) -> list[str]:
        """Keywords OpenMX does not know and would pass over in silence, with what may be meant."""
        out = []
        for name, entry in self._entries.items():
            if name in _KNOWN:
                continue
            close = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.75)
            hint = f"; did you mean '{_KNOWN[close[0]]}'?" if close else ""
            out.append(f"{self.source}:{entry.line}: OpenMX knows no '{entry.name}'{hint}")
        return out

    def _put(self, entry: Entry) -> None:
        self._entries[entry.name.lower()] = entry


def _shown(entry: Entry) -> str:
    return " (block)" if entry.is_block else f" {entry.lines[0]}"


def parse(text: str, source: str) -> Deck:
    """A deck from the text of an input file.

    Raises
    ------
    EngineError
        If a block is not closed, or a keyword is given twice.
    """
    entries: dict[str, Entry] = {}
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, raw in lines:
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        if line.startswith("<"):
            name = line[1:].split()[0]
            body = []
            for _, inside in lines:
                if inside.split("#", 1)[0].strip().lower() == f"{name.lower()}>":
                    break
                if inside.split("#", 1)[0].strip():
                    body.append(inside.split("#", 1)[0].strip())
            else:
                raise EngineError(
                    f"{source}:{number}: block <{name} is never closed; end it with a line {name}>"
                )
            entry = Entry(name, tuple(body), number, is_block=True)
        else:
            name, _, value = line.partition(" ")
            name, _, rest = name.partition("\t")
            entry = Entry(name, ((rest + " " + value).strip(),), number, is_block=False)
        first = entries.setdefault(entry.name.lower(), entry)
        if first is not entry:
            raise EngineError(
                f"{source}:{number}: {entry.name} is given twice, first in line {first.line}; "
                "keep one"
            )
    return Deck(list(entries.values()), source)


def read(path: Path) -> Deck:
    """A deck from a file.

    Raises
    ------
    EngineError
        If it cannot be read or is not an input file.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise EngineError(f"engine.template: {path} cannot be read ({error.strerror})") from error
    return parse(text, path.name)

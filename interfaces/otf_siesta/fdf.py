"""Reading, changing and writing SIESTA input files (fdf).

Manual, section "The flexible data format": names are compared ignoring case, ``.``, ``-`` and
``_``; the first of several equal names counts; ``#``, ``;`` and ``!`` begin a comment.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from otf.engines.input_deck import Deck, Entry
from otf.errors import EngineError
from otf_siesta.values import SEPARATORS, words_of

_COMMENT = re.compile(r"""("[^"]*"|'[^']*'|`[^`]*`)|[#;!].*""")
_DEEPEST = 20  # nested included files


def _key(name: str) -> str:
    return re.sub(r"[-_.]", "", name).lower()


def _named_in(file: str) -> dict[str, str]:
    names = (files(__package__) / file).read_text(encoding="utf-8").split()
    return {_key(name): name for name in names}


# Keywords of SIESTA 4.1 and its manual, and those that 5.x has besides (from the source of 5.4.2);
# it silently ignores any other.
NEW_IN_5 = _named_in("keywords_5.txt")
_KNOWN = NEW_IN_5 | _named_in("keywords.txt")


# Keywords of inputs that come with SIESTA 4.1, which reads none of them.
_RETIRED = ("DivideAndConquer", "PAO.BasisAndPSlmax", "WriteSiestaDim")


class Fdf(Deck):
    """A SIESTA input file."""

    program = "SIESTA"
    known = _KNOWN
    retired = frozenset(map(_key, _RETIRED))
    # Mixers, electrodes, manifolds and the like are named by the user; other programs share the
    # file.
    free = (
        "scfmixer", "ts", "tbt", "denchar", "stm", "sts",
        "dminitbulk", "wanniermanifold", "wannierprojectors",
    )  # fmt: skip

    @staticmethod
    def key(name: str) -> str:
        """Normalise a name: case, dots, dashes and underscores do not matter."""
        return _key(name)

    @staticmethod
    def written(entry: Entry) -> str:
        """Format an entry: a line, or a block."""
        if not entry.is_block:
            return f"{entry.name} {entry.lines[0]}"
        return "\n".join([f"%block {entry.name}", *entry.lines, f"%endblock {entry.name}"])

    def flag(self, name: str) -> bool:
        """Whether a switch is on; its name alone means yes."""
        return self.value(name) == "" or super().flag(name)


def read(path: Path) -> Fdf:
    """Read an input file, with the files it includes.

    Raises
    ------
    EngineError
        If a file cannot be read, or a block is not closed.
    """
    entries: dict[str, Entry] = {}
    for entry in _entries(path, depth=0):
        entries.setdefault(_key(entry.name), entry)  # the first counts
    return Fdf(list(entries.values()), path.name)


def whole_text(path: Path) -> str:
    """Text of an input file, with the files it includes inserted.

    Raises
    ------
    EngineError
        As :func:`read`.
    """
    if any("<" in line or line.lower().startswith("%include") for _, line in _lines(path)):
        return read(path).text()
    return path.read_text(encoding="utf-8", errors="replace")


def _entries(path: Path, *, depth: int) -> Iterator[Entry]:
    if depth > _DEEPEST:
        raise EngineError(f"{path.name}: files include each other more than {_DEEPEST} deep")
    lines = _lines(path)
    for number, line in lines:
        where = f"{path.name}:{number}"
        words = words_of(line.replace("<", " < "))
        first = words[0].lower()
        if first == "%include":
            yield from _entries(_other(path, words[1:2], where), depth=depth + 1)
        elif first == "%block":
            if len(words) < 2:
                raise EngineError(f"{where}: %block has no name; give it one")
            if "<" in words:
                name = words[words.index("<") + 1 :][:1]
                body = _block_of(_other(path, name, where), words[1])
            else:
                body = _body(lines, words[1], where)
            yield Entry(words[1], tuple(body), where, is_block=True)
        elif "<" in words:  # names of entries that are in another file, if it has them
            at = words.index("<")
            names = {_key(name) for name in words[:at]}
            other = _entries(_other(path, words[at + 1 :][:1], where), depth=depth + 1)
            yield from (entry for entry in other if _key(entry.name) in names)
        elif first == "%endblock":
            raise EngineError(f"{where}: ends a block that was not begun; remove the line")
        else:
            value = line[len(words[0]) :].lstrip(SEPARATORS)
            yield Entry(words[0], (value,), where, is_block=False)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not blank or comments."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror})") from error
    for number, raw in enumerate(text.splitlines(), start=1):
        line = _COMMENT.sub(lambda found: found.group(1) or "", raw).strip()
        line = line.lstrip(SEPARATORS)
        if line:  # not a rule of separators
            yield number, line


def _body(lines: Iterator[tuple[int, str]], name: str, where: str) -> list[str]:
    """Lines up to the end of a block."""
    body: list[str] = []
    for _, line in lines:
        if line.lower().startswith("%endblock"):
            return body
        body.append(line)
    raise EngineError(f"{where}: %block {name} is never closed; end it with %endblock {name}")


def _block_of(path: Path, name: str) -> list[str]:
    """A block kept in a separate file, with or without its own %block line."""
    for entry in _entries(path, depth=1) if _has_blocks(path) else ():
        if entry.is_block and _key(entry.name) == _key(name):
            return list(entry.lines)
    return [line for _, line in _lines(path)]


def _has_blocks(path: Path) -> bool:
    return any(line.lower().startswith("%block") for _, line in _lines(path))


def _other(path: Path, name: list[str], where: str) -> Path:
    """The file that another one refers to, relative to it."""
    if not name:
        raise EngineError(f"{where}: names no file")
    other = path.parent / name[0].strip("\"'`")
    if not other.is_file():
        raise EngineError(f"{where}: there is no file {other}")
    return other

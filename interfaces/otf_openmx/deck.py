"""Reading, changing and writing OpenMX input files (keywords and blocks)."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from otf.engines.input_deck import Deck, Entry
from otf.errors import EngineError

# Keywords that the input routines of OpenMX 3.9 read, and those that its later patches and 4.0
# read besides (from the source of 4.0 for GPUs); it silently ignores any other.
_KNOWN = {
    name.lower(): name
    for file in ("keywords.txt", "keywords_4.txt")
    for name in (files(__package__) / file).read_text(encoding="utf-8").split()
}


# Keywords of inputs that come with OpenMX 3.9, which reads none of them.
_RETIRED = (
    "ESM.potential.difference", "MD.Opt.DIIS_Mixing", "MD.Opt_criterion", "memory.leak",
    "orbitalOpt.initPrefactor", "orbitalOpt.MD.maxIter", "orderN.recalc.EM", "Wannier.Pauli.Calc",
    "Wannier.Pauli.SuperCells",
)  # fmt: skip


class OpenmxDeck(Deck):
    """An OpenMX input file.

    Attributes
    ----------
    repeated
        Entries that OpenMX ignores, as it takes the first of a name, in words.
    """

    program = "OpenMX"
    known = _KNOWN
    retired = frozenset(name.lower() for name in _RETIRED)

    def __init__(self, entries: list[Entry], source: str, repeated: Sequence[str] = ()) -> None:
        super().__init__(entries, source)
        self.repeated = tuple(repeated)

    @staticmethod
    def written(entry: Entry) -> str:
        """Format an entry: a line, or a block between ``<name`` and ``name>``."""
        if not entry.is_block:
            return f"{entry.name}  {entry.lines[0]}"
        return "\n".join([f"<{entry.name}", *entry.lines, f"{entry.name}>"])


def parse(text: str, source: str) -> OpenmxDeck:
    """Parse the text of an input file.

    Raises
    ------
    EngineError
        If a block is not closed.
    """
    entries: dict[str, Entry] = {}
    repeated: list[str] = []
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
            entry = Entry(name, tuple(body), f"{source}:{number}", is_block=True)
        else:
            name, _, value = line.partition(" ")
            name, _, rest = name.partition("\t")
            entry = Entry(
                name, ((rest + " " + value).strip(),), f"{source}:{number}", is_block=False
            )
        first = entries.setdefault(entry.name.lower(), entry)
        if first is not entry and first.lines != entry.lines:
            repeated.append(
                f"{entry.where}: {entry.name} is given twice; OpenMX takes the first, of "
                f"{first.where}: {first.lines[0] if first.lines else ''}"
            )
    return OpenmxDeck(list(entries.values()), source, repeated)


def read(path: Path) -> OpenmxDeck:
    """Read an input file.

    Raises
    ------
    EngineError
        If it cannot be read or is not an input file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise EngineError(f"engine.template: {path} cannot be read ({error.strerror})") from error
    return parse(text, path.name)

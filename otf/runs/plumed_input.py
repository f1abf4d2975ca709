"""Input files of PLUMED: what they read, when biases grow, and what a run cannot have."""

import shutil
from collections.abc import Iterator
from pathlib import Path

FOLDER, INPUT = "plumed", "plumed.dat"  # in the run directory
_KEYS_OF_INPUTS = ("REFERENCE", "STRUCTURE", "NDX_FILE", "CONFIGURATION", "PDB", "GRID_RFILE")
_ACTIONS_WITH_INPUT = ("INCLUDE", "EXTERNAL")  # whose FILE is read
# Actions and keywords of which the state is not in files that PLUMED appends to.
_FORGETFUL = (
    *("ABMD", "DRR", "EDS", "EXTENDED_LAGRANGIAN", "LOGMFD", "MAXENT", "VES_LINEAR_EXPANSION"),
    *("DUMPGRID", "GRID_WFILE", "STATE_WFILE"),
)  # fmt: skip


def keep_input(path: Path, folder: Path) -> None:
    """Copy an input of PLUMED, and the files that it reads, to a folder for its files.

    Raises
    ------
    OSError
        If one cannot be copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / INPUT)
    for name in read_by(path):
        if (path.parent / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path.parent / name, folder / name)


def problem_of(path: Path) -> str:
    """Why an input cannot be used in a run; empty if it can."""
    for words in _lines(path):
        names = {word.partition("=")[0] for word in words} | {words[0].partition(":")[0]}
        found = sorted(names.intersection(_FORGETFUL))
        if found:
            return f"{found[0]} cannot be returned to an earlier state; leave it out"
        if "RESTART" in words:
            return "RESTART: leave it out; a run continues its own files"
    outside = [name for name in read_by(path) if ".." in Path(name).parts]
    return f"{outside[0]}: put it beside the input, as it is kept with it" if outside else ""


def read_by(path: Path) -> set[str]:
    """Names of the files that an input of PLUMED reads, relative to its own folder."""
    names: set[str] = set()
    for words in _lines(path):
        keys = list(_KEYS_OF_INPUTS)
        if any(word.split(":")[-1] in _ACTIONS_WITH_INPUT for word in words[:2]):
            keys.append("FILE")
        names.update(name for key in keys for name in _values(words, key))
    return {name for name in names if not Path(name).is_absolute()}


def paces(path: Path) -> set[int]:
    """Steps between additions to the biases."""
    values = [value for words in _lines(path) for value in _values(words, "PACE")]
    return {int(value) for value in values if value.isdigit() and int(value)}


def _lines(path: Path, *, of: tuple[Path, ...] = ()) -> Iterator[list[str]]:
    """Words of each line of an input of PLUMED and of what it includes, without comments.

    Parameters
    ----------
    of
        The inputs that include it.
    """
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        yield words
        if words[0] == "INCLUDE":
            for name in _values(words, "FILE"):
                included = (*of, path)[0].parent / name
                if included.is_file() and included not in (*of, path):
                    yield from _lines(included, of=(*of, path))


def _values(words: list[str], key: str) -> list[str]:
    return [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]

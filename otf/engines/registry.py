"""Registry of installed engines, discovered by entry points and imported on demand."""

import difflib
import importlib.util
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast, get_args

from pydantic import BaseModel

from otf.engines.protocol import Engine
from otf.errors import EngineError

ENTRY_POINT_GROUP = "otf.engines"


def path_options(options: type[BaseModel]) -> list[str]:
    """Names of the options that are files or folders.

    Relative ones start at the configuration file; files become part of the run directory.
    """
    return [
        name
        for name, info in options.model_fields.items()
        if any(
            Path in (part, *get_args(part))
            for part in (info.annotation, *get_args(info.annotation))
        )
    ]


def installed_engines() -> dict[str, EntryPoint]:
    """Entry points of the engines on this machine, by kind.

    Raises
    ------
    EngineError
        If two installed distributions offer the same kind.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise EngineError(
                f"two engines are called '{entry.name}': {_origin(other)} and {_origin(entry)}; "
                "uninstall one of the distributions"
            )
    return found


def load_engine(kind: str) -> type[Engine]:
    """Import the class of an engine.

    Raises
    ------
    EngineError
        If there is no such engine, or its module does not import; if another module shadows it,
        the message names that file.
    """
    engines = installed_engines()
    if kind not in engines:
        close = difflib.get_close_matches(kind, engines, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise EngineError(
            f"no engine is called '{kind}'; {hint}installed: {', '.join(sorted(engines))}"
        )
    entry = engines[kind]
    try:
        engine = entry.load()
    except (ImportError, AttributeError) as error:
        raise EngineError(
            f"engine '{kind}' ({_origin(entry)}) does not import: {error}. "
            + _what_shadows(entry, error)
        ) from error
    if not isinstance(engine, type) or Engine not in engine.__mro__:
        raise EngineError(
            f"engine '{kind}' ({_origin(entry)}) is not an engine class: derive it from "
            "otf.engines.protocol.Engine"
        )
    missing = [n for n in ("kind", "Options") if not hasattr(engine, n)]
    missing += sorted(getattr(engine, "__abstractmethods__", ()))
    if missing:
        raise EngineError(f"engine '{kind}' ({_origin(entry)}) lacks {', '.join(missing)}")
    return cast(type[Engine], engine)


def _origin(entry: EntryPoint) -> str:
    distribution = f" of {entry.dist.name}" if entry.dist is not None else ""
    return f"{entry.value}{distribution}"


def _what_shadows(entry: EntryPoint, error: ImportError | AttributeError) -> str:
    """Origin of the modules that fail to import, to reveal a file that shadows a package."""
    failed = getattr(error, "name", None)
    names = {entry.module.partition(".")[0]}
    if isinstance(error, ImportError) and failed:
        names.add(failed.partition(".")[0])
    lines = []
    for name in sorted(names):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            lines.append(f"'{name}' is not installed: pip install the package that has it")
        else:
            origin = spec.origin or str(next(iter(spec.submodule_search_locations or ["?"])))
            lines.append(
                f"'{name}' is taken from {origin}: if that is not the installed package, rename "
                "or move that file, or unset PYTHONPATH"
            )
    return "; ".join(lines)

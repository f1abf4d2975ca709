"""Checks of the sections that name an engine by the schema of that engine."""

from pathlib import Path
from typing import Any

from otf.config.baseline import AUTO_BASELINE
from otf.config.document import Document, Keys, validate
from otf.engines.registry import load_engine, path_options
from otf.errors import EngineError

_OURS: dict[Any, tuple[str, ...]] = {"engine": ("kind",), "model": ("kind", "use", "every")}
"""Keys of a section that are not the engine's, by the first key that leads to it."""


def check_engines(document: Document, folder: Path) -> None:
    """Validate the keys of each engine by its own schema, and make its paths absolute.

    Problems are added to the document.

    Parameters
    ----------
    folder
        Folder that relative paths start from.
    """
    sections = _sections(document.data)
    for at, section in sections:
        if not isinstance(section, dict) or not isinstance(section.get("kind"), str):
            continue
        if at[0] == "model" and section["kind"] == AUTO_BASELINE:
            if len(section) > 1 or len(sections) > 2:
                where = document.values[(*at, "kind")]
                document.problems.append((where, "model.baseline: auto stands alone, as a word"))
        else:
            _check(document, folder, at, section)


def _sections(data: Any) -> list[tuple[Keys, Any]]:
    """The sections that name an engine."""
    found: list[tuple[Keys, Any]] = [(("engine",), data.get("engine"))]
    model = data.get("model")
    baseline = model.get("baseline") if isinstance(model, dict) else None
    if isinstance(baseline, list):
        found += [(("model", "baseline", i), term) for i, term in enumerate(baseline)]
    else:
        found.append((("model", "baseline"), baseline))
    return found


def _check(document: Document, folder: Path, at: Keys, section: dict[str, Any]) -> None:
    name = ".".join(str(key) for key in at)
    try:
        engine = load_engine(section["kind"])
    except EngineError as error:
        document.problems.append((document.values[(*at, "kind")], f"{name}.kind: {error}"))
        return
    ours = {key: section.pop(key) for key in _OURS[at[0]] if key in section}
    options = validate(engine.Options, document, at)
    if options is not None:
        _make_absolute(document, folder, at, section, path_options(engine.Options))
        section.update(engine.found_beside(section, folder))
        # Values derived from a path are stored: a copy of the file elsewhere would give others.
        checked = engine.Options.model_validate(section)
        implied = checked.model_dump(mode="json", exclude_unset=True)
        section.update({key: value for key, value in implied.items() if key not in section})
    section.update(ours)


def _make_absolute(
    document: Document, folder: Path, at: Keys, section: dict[str, Any], options: list[str]
) -> None:
    """Make the paths of an engine absolute; missing files are problems."""
    name = ".".join(str(key) for key in at)
    for option in options:
        given = section.get(option)
        if not isinstance(given, str):
            continue
        section[option] = str((folder / Path(given).expanduser()).absolute())
        if not Path(section[option]).exists():
            document.problems.append(
                (
                    document.values[(*at, option)],
                    f"{name}.{option}: there is no {section[option]}",
                )
            )

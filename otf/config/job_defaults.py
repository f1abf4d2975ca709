"""Defaults of the dynamics from the input file of the engine."""

from pathlib import Path
from typing import Any

from otf.engines.registry import load_engine


def take_in_job(data: dict[str, Any], folder: Path) -> list[str]:
    """Take defaults of the dynamics from the engine's input file, and say what was taken or left.

    No dynamics is taken where the configuration has stages.

    Parameters
    ----------
    data
        The sections of the configuration; the ``dynamics`` section is completed in place.
    folder
        Folder that relative paths start from.

    Returns
    -------
    What was taken and what was left, a line each.

    Raises
    ------
    EngineError
        If the file cannot be read.
    """
    system, engine = data.get("system"), data.get("engine")
    if not isinstance(system, dict) or not isinstance(engine, dict):
        return []
    named = system.get("from", engine.get("template"))
    path = folder / str(named)
    if named is None or not path.is_file():
        return []
    job = load_engine(str(engine.get("kind"))).job(path)
    section = data.setdefault("dynamics", {})
    if not isinstance(section, dict):
        return []
    elsewhere, given = "from" not in system, set(section)
    prefix = "left, as the structure is not from it: " if elsewhere else ""
    lines = [prefix + words for words in job.of_atoms]
    for key, (value, line) in {} if "stages" in section else job.dynamics.items():
        if elsewhere and key == "velocities":
            continue
        if "_end_" in key and key.replace("_end_", "_") in given:  # the end of another ramp
            continue
        if key not in section:
            section[key] = value
            lines.append(f"dynamics.{key}: {value} ({line})")
        elif section[key] != value:
            lines.append(f"left: {line}; dynamics.{key} is {section[key]}")
    return [f"{path.name}: {line}" for line in (*lines, *(f"left: {x}" for x in job.left))]

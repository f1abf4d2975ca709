"""Settings of a run, and which of them may change when it is resumed."""

from collections.abc import Mapping
from typing import Any

from otf.config import Config
from otf.engines.registry import load_engine
from otf.errors import ConfigError

_MAY_CHANGE = ("model.threads",)
_SECTIONS_THAT_MAY = ("policy.", "output.", "stop.")

Settings = Mapping[str, Any]
"""Values by dotted names, as ``dynamics.steps``."""


def settings(config: Config) -> dict[str, Any]:
    """All settings of a run except its structure, which is a separate file."""
    data = config.model_dump(
        mode="json", exclude_none=True, exclude={"system", "cluster", "replicas", "learn_from"}
    )
    flat = {f"system.{name}": getattr(config.system, name) for name in ("charge", "spin")}
    for section, values in data.items():
        flat |= {f"{section}.{key}": value for key, value in values.items()}
    return flat


def changes(before: Settings, now: Settings, *, kind: str, source: str) -> list[str]:
    """Describe the settings that changed, one line each.

    Parameters
    ----------
    kind
        Kind of the engine.
    source
        File of the settings, for messages.

    Raises
    ------
    ConfigError
        If a setting changed that a run must keep.
    """
    free = [f"engine.{name}" for name in load_engine(kind).may_change]
    changed, refused = [], []
    for name in sorted({*before, *now}):
        old, new = before.get(name, "not set"), now.get(name, "not set")
        if old == new or (name not in before and new == []):  # a key of a later version, not in use
            continue
        longer = name == "dynamics.steps" or (
            name == "dynamics.stages" and _same_but_for_the_end(old, new)
        )
        if longer and _ramped(now):
            refused.append(f"{source}: {name}: a ramp depends on the length; set it back")
            continue
        if longer or name in _MAY_CHANGE or name in free or name.startswith(_SECTIONS_THAT_MAY):
            changed.append(f"{name}: {old} → {new}")
        else:
            refused.append(
                f"{source}: {name}: was {old} and is {new} now; a run keeps it: set it back, or "
                "start a new run"
            )
    if refused:
        raise ConfigError(refused)
    return changed


def _same_but_for_the_end(old: Any, new: Any) -> bool:
    """Whether two lists of stages differ in the length of the last one only."""
    if not isinstance(old, list) or not isinstance(new, list) or len(old) != len(new):
        return False
    ends = [{**stages[-1], "steps": 0} for stages in (old, new)]
    return old[:-1] == new[:-1] and ends[0] == ends[1]


def _ramped(now: Settings) -> bool:
    """Whether temperature or pressure change towards the end of the run."""
    stages = now.get("dynamics.stages") or [{}]
    last = {key.removeprefix("dynamics."): value for key, value in now.items()} | stages[-1]
    return "temperature_end_K" in last or "pressure_end_GPa" in last

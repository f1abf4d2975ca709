"""The commented configuration that ``otf init`` writes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from otf.config.writer import to_yaml

_COLUMN, _WIDTH = 30, 110  # of the comments, and of lines
_DYNAMICS = {
    "ensemble": "nve, csvr, langevin, nhc; npt, npt_full (pressure_GPa); slhmc",
    "steps": "or stages, each with its own settings",
    "timestep_fs": "",
    "temperature_K": "temperature_end_K: for a ramp",
    "seed": "of velocities and thermostat",
}


@dataclass(frozen=True)
class Starter:
    """What a configuration starts from.

    Attributes
    ----------
    title
        What is simulated, for the first line.
    system
        The ``system`` section, with a comment for each key.
    kind, options, given
        The engine, the schema of its options, and those that are set.
    dynamics
        Keys of the ``dynamics`` section that are set; the others are those of the input file.
    """

    title: str
    system: Mapping[str, tuple[Any, str]]
    kind: str
    options: type[BaseModel]
    given: Mapping[str, Any] = field(default_factory=dict)
    dynamics: Mapping[str, Any] = field(default_factory=dict)
    target_meV_A: float = 20.0

    def __str__(self) -> str:
        lines = [f"# {self.title}", "# Every key: otf schema, or the documentation.", "system:"]
        lines += [_line(key, value, why) for key, (value, why) in self.system.items()]
        lines += ["", "engine:", _line("kind", self.kind, "otf doctor lists those installed")]
        for name, info in self.options.model_fields.items():
            lines.append(self._option(name, info))
        lines += ["", "dynamics:"] if self.dynamics else ["", "# dynamics: as in the input file"]
        for key, comment in _DYNAMICS.items():
            if key in self.dynamics:
                lines.append(_line(key, self.dynamics[key], comment))
        target = "mean absolute error of a force component to stay below"
        lines += ["", "policy:", _line("force_target_meV_A", self.target_meV_A, target)]
        rest = (
            "model: {baseline: auto}",
            "learn_from: [runs/earlier]",
            "replicas: {count: 4}",
            "cluster: {time: 12:00:00}",
        )
        lines += ["", *(f"# {line}" for line in rest)]
        return "\n".join(lines) + "\n"

    def _option(self, name: str, info: FieldInfo) -> str:
        """An option of the engine: set, to be filled in, or its default as a comment."""
        comment = info.description or ""
        if name in self.given:
            return _line(name, self.given[name], comment)
        if info.is_required():
            return _commented(f"  {name}:", f"fill in: {comment}")
        if info.default in (PydanticUndefined, None):
            return _commented(f"  # {name}:", comment)
        return _commented(f"  # {_pair(name, info.default)}", comment)


def _line(key: str, value: Any, comment: str) -> str:
    return _commented(f"  {_pair(key, value)}", comment)


def _pair(key: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"{key}: {list(value)}"
    return to_yaml({key: value}).strip()


def _commented(line: str, comment: str) -> str:
    """A line with as much of the comment as fits, in whole clauses."""
    while comment and len(line.ljust(_COLUMN)) + 3 + len(comment) > _WIDTH:
        shorter = max(comment.rfind(mark) for mark in ("; ", ". ", ": ", ", "))
        comment = comment[: max(0, shorter)]
    return f"{line.ljust(_COLUMN)} # {comment}" if comment else line

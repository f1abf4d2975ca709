"""A YAML file as plain data, with the position of every key and value for messages.

PyYAML accepts duplicate keys, reads ``1e-3`` as text, ``NO`` as false and ``12:30:00`` as a
number. Therefore only its node tree, which keeps the positions, is used, with the scalar rules of
the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema).
"""

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from otf.config.scalars import SCALARS

Keys = tuple[str | int, ...]
"""Keys and indices that lead to a value."""

_LONGEST, _MOST_VALUES, _DEEPEST = 10**6, 10**5, 30  # characters, values and levels of a file
_RENAMED = {
    "walkers": "replicas",
    "policy.second_opinion": "policy.force_check",
    "model.rank": "model.order",
}
"""Keys of earlier versions, and their present names."""


@dataclass
class Document:
    """Plain data of a YAML file, with the position of every key and value."""

    data: Any = None
    keys: dict[Keys, yaml.Mark] = field(default_factory=dict)
    values: dict[Keys, yaml.Mark] = field(default_factory=dict)
    problems: list[tuple[yaml.Mark | None, str]] = field(default_factory=list)
    too_much: bool = False


def locate(path: Path, mark: yaml.Mark | None) -> str:
    """Beginning of a message on a position in a file."""
    return f"{path}: " if mark is None else f"{path}:{mark.line + 1}:{mark.column + 1}: "


def parse(text: str) -> Document:
    """Read YAML; what is wrong with it is among the problems of the document."""
    document = Document()
    if len(text) > _LONGEST:
        document.problems.append((None, f"longer than {_LONGEST} characters: no configuration"))
        return document
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        document.problems.append((None, "nested too deeply"))
        return document
    except yaml.MarkedYAMLError as error:
        problem = " ".join(p for p in (error.context, error.problem) if p)
        document.problems.append((error.problem_mark, f"not valid YAML: {problem}"))
        return document
    except yaml.YAMLError as error:
        document.problems.append((None, f"not valid YAML: {error}"))
        return document
    if root is not None:
        document.data = _plain(root, (), document, frozenset())
    return document


def _plain(node: yaml.Node, path: Keys, document: Document, above: frozenset[int]) -> Any:
    document.values[path] = node.start_mark
    if len(document.values) > _MOST_VALUES or len(path) > _DEEPEST:
        if not document.too_much:
            document.too_much = True
            document.problems.append(
                (node.start_mark, f"more than {_MOST_VALUES} values or {_DEEPEST} levels")
            )
        return None
    if id(node) in above:
        document.problems.append((node.start_mark, f"{_dotted(path)}: refers to itself"))
        return None
    above |= {id(node)}
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            here = (*path, key)
            if key in out:
                first = document.keys[here].line + 1
                document.problems.append(
                    (
                        key_node.start_mark,
                        f"{_dotted(here)}: given twice, first in line {first}; keep one",
                    )
                )
                continue
            document.keys[here] = key_node.start_mark
            out[key] = _plain(value_node, here, document, above)
        return out
    if isinstance(node, yaml.SequenceNode):
        return [_plain(n, (*path, i), document, above) for i, n in enumerate(node.value)]
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return node.value  # quoted and block scalars are always text
    for pattern, convert in SCALARS:
        if pattern.match(node.value):
            return convert(node.value)
    return node.value


def _dotted(path: Keys) -> str:
    return ".".join(str(p) for p in path)


def validate(schema: type[BaseModel], document: Document, at: Keys) -> Any:
    """Validate the part of the document below ``at``; problems are added to it."""
    data = document.data
    for key in at:
        data = data[key]
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            document.problems.append(_describe(schema, document, at, detail))
    return None


def _describe(
    schema: type[BaseModel], document: Document, at: Keys, detail: ErrorDetails
) -> tuple[yaml.Mark | None, str]:
    """Position and text of one pydantic error."""
    path = _written(document, at, detail["loc"])
    while path not in document.values and len(path) > len(at) and detail["type"] != "missing":
        path = path[:-1]
    name = _dotted(path) or "the file"
    if detail["type"] == "missing":
        parent = path[:-1]
        mark = document.keys.get(parent, document.values.get(parent))
        return mark, f"{name}: is missing"
    if detail["type"] == "extra_forbidden":
        known = _fields_at(schema, detail["loc"][:-1])
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(known)}"
        if name in _RENAMED:
            hint = f"did you mean '{_RENAMED[name]}'? It was renamed"
        return document.keys.get(path), f"{name}: unknown key, {hint}"
    text = detail["msg"].removeprefix("Value error, ")
    text = text[0].lower() + text[1:]
    given = detail["input"]
    if detail["type"] != "value_error" and not isinstance(given, dict):
        text += f", found {given!r}"
    mark = document.values.get(path)
    if detail["type"] == "value_error":
        mark = document.keys.get(path, mark)
    return mark, f"{name}: {text}"


def _written(document: Document, at: Keys, loc: Keys) -> Keys:
    """Path of an error below ``at``, without the names of variants that pydantic inserts."""
    path = at
    for number, key in enumerate(loc):
        last = number == len(loc) - 1
        if last or (*path, key) in document.values:
            path = (*path, key)
    return path


def _fields_at(schema: type[BaseModel], path: Keys) -> list[str]:
    """Valid keys at a path of the schema."""
    here = [schema]
    for key in path:
        fields = [model.model_fields[str(key)] for model in here if str(key) in model.model_fields]
        if fields:
            here = [model for field in fields for model in _models(field.annotation)]
        elif isinstance(key, str):  # the name of a variant
            here = [m for m in here if key in get_args(m.model_fields["kind"].annotation)]
    named = (item for model in here for item in model.model_fields.items())
    return list(dict.fromkeys(field.alias or name for name, field in named))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections in a type: itself, or those in its list or union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]

"""Reader of strict YAML that reports all problems of a file, each with line, column and remedy.

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

from otf.config.cluster import Cluster
from otf.config.job_defaults import take_in_job
from otf.config.scalars import SCALARS
from otf.config.schema import Config, Learning, Model
from otf.config.writer import to_yaml
from otf.engines.registry import load_engine, path_options
from otf.errors import ConfigError, EngineError

_Path = tuple[str | int, ...]

_LONGEST, _MOST_VALUES, _DEEPEST = 10**6, 10**5, 30  # characters, values and levels of a file
_RENAMED = {
    "walkers": "replicas",
    "policy.second_opinion": "policy.force_check",
    "model.rank": "model.order",
}
"""Keys of earlier versions, and their present names."""


@dataclass
class _Document:
    """Plain data of a YAML file, with the position of every key and value."""

    data: Any = None
    keys: dict[_Path, yaml.Mark] = field(default_factory=dict)
    values: dict[_Path, yaml.Mark] = field(default_factory=dict)
    problems: list[tuple[yaml.Mark | None, str]] = field(default_factory=list)
    too_much: bool = False


def read_config(path: Path) -> Config:
    """Read and check a configuration, including the section of its engine.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            [f"{path}: cannot be read ({error.strerror}); `otf init NAME` writes a new one"]
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text; save it as UTF-8"]) from error
    document = _parse(text)
    config = _checked(document, path.parent)
    if document.problems or config is None:
        where = sorted(
            document.problems, key=lambda p: (p[0].line, p[0].column) if p[0] else (0, 0)
        )
        raise ConfigError([_locate(path, mark) + text for mark, text in where])
    return config


def config_of(data: dict[str, Any], folder: Path) -> Config:
    """Create a configuration from plain data, checked like one in a file.

    Parameters
    ----------
    folder
        Folder that relative paths start from.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    document = _parse(to_yaml(data))
    config = _checked(document, folder)
    if document.problems or config is None:
        raise ConfigError([text for _, text in document.problems])
    return config


def read_learning(path: Path) -> Learning:
    """Read what the learning depends on from a configuration, or from a file of these keys alone.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    try:
        document = _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        document = _Document()
    if not isinstance(document.data, dict) or {"system", "engine", "dynamics"} & set(document.data):
        config = read_config(path)
        return Learning(
            model=config.effective_model,
            policy=config.policy,
            timestep_fs=config.dynamics.timestep_fs,
            seed=config.dynamics.seed,
        )
    learning = _validate(Learning, document, ())
    if learning is None:
        raise ConfigError([_locate(path, mark) + text for mark, text in document.problems])
    assert isinstance(learning, Learning)
    return learning


def learning_with(learning: Learning, *, target: float | None, timestep: float | None) -> Learning:
    """The same with another force target (meV/Angstrom) and time between frames (fs), if given.

    Raises
    ------
    ConfigError
        If a number is not positive.
    """
    data: dict[str, Any] = learning.model_dump(mode="json", exclude_none=True)
    if target is not None:
        data["policy"]["force_target_meV_A"] = target
    if timestep is not None:
        data["timestep_fs"] = timestep
    document = _parse(to_yaml(data))
    changed = _validate(Learning, document, ())
    if changed is None:
        raise ConfigError([text for _, text in document.problems])
    assert isinstance(changed, Learning)
    return changed


def model_of(data: dict[str, Any]) -> Model:
    """Create a ``model`` section from plain data.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    document = _parse(to_yaml({"model": data}))
    model = _validate(Model, document, ("model",))
    if model is None:
        raise ConfigError([text for _, text in document.problems])
    assert isinstance(model, Model)
    return model


def _checked(document: _Document, folder: Path) -> Config | None:
    """The configuration of a document, whose problems are added to it."""
    if not isinstance(document.data, dict):
        if not document.problems:
            document.problems.append((None, "expected sections such as 'system:' and 'dynamics:'"))
        return None
    _check_engine(document, folder)
    _take_in_profile(document, folder)
    unread, taken = "", list[str]()
    try:
        taken = take_in_job(document.data, folder)
    except EngineError as error:  # reported where the structure or the engine needs the file
        unread = str(error)
    config: Config | None = _validate(Config, document, ())
    if config is None and unread:  # what is missing may be in that file
        document.problems.append((document.values.get(("system", "from")), unread))
    _check_structure(document, folder)
    if config is not None:
        config.remember_job(taken)
    return config


def _locate(path: Path, mark: yaml.Mark | None) -> str:
    return f"{path}: " if mark is None else f"{path}:{mark.line + 1}:{mark.column + 1}: "


def _parse(text: str) -> _Document:
    document = _Document()
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


def _plain(node: yaml.Node, path: _Path, document: _Document, above: frozenset[int]) -> Any:
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


def _dotted(path: _Path) -> str:
    return ".".join(str(p) for p in path)


def _validate(schema: type[BaseModel], document: _Document, at: _Path) -> Any:
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
    schema: type[BaseModel], document: _Document, at: _Path, detail: ErrorDetails
) -> tuple[yaml.Mark | None, str]:
    """Position and text of one pydantic error."""
    path: _Path = (*at, *detail["loc"])
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


def _fields_at(schema: type[BaseModel], path: _Path) -> list[str]:
    """Valid keys at a path of the schema."""
    for key in path:
        field_info = schema.model_fields.get(str(key))
        if field_info is None:
            break
        candidates = (field_info.annotation, *get_args(field_info.annotation))
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                schema = candidate
                break
    return list(schema.model_fields)


def _check_engine(document: _Document, folder: Path) -> None:
    """Validate the engine's keys by the engine's schema, and make its paths absolute."""
    section = document.data.get("engine")
    if not isinstance(section, dict) or not isinstance(section.get("kind"), str):
        return
    try:
        engine = load_engine(section["kind"])
    except EngineError as error:
        document.problems.append((document.values[("engine", "kind")], f"engine.kind: {error}"))
        return
    kind = section.pop("kind")
    options = _validate(engine.Options, document, ("engine",))
    section["kind"] = kind
    if options is None:
        return
    for name in path_options(engine.Options):
        given = section.get(name)
        if not isinstance(given, str):
            continue
        section[name] = str((folder / Path(given).expanduser()).absolute())
        if not Path(section[name]).exists():
            document.problems.append(
                (
                    document.values[("engine", name)],
                    f"engine.{name}: there is no {section[name]}",
                )
            )
    section.update(engine.found_beside(section, folder))
    # Values derived from a path are stored: a copy of the file elsewhere would give others.
    given = {key: value for key, value in section.items() if key != "kind"}
    implied = engine.Options.model_validate(given).model_dump(mode="json", exclude_unset=True)
    section.update({key: value for key, value in implied.items() if key not in given})


def _take_in_profile(document: _Document, folder: Path) -> None:
    """Merge the keys of a site's profile into the cluster section, which takes precedence."""
    section = document.data.get("cluster")
    name = section.pop("profile", None) if isinstance(section, dict) else None
    if not isinstance(name, str):
        return
    path = folder / Path(name).expanduser()
    at = document.values["cluster", "profile"]
    try:
        profile = _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        document.problems.append((at, f"cluster.profile: {path} cannot be read ({error})"))
        return
    if not isinstance(profile.data, dict):
        profile.problems.append((None, "expected keys of the cluster section"))
    elif "profile" in profile.data:
        profile.problems.append(
            (profile.keys["profile",], "profile: a profile cannot name another one")
        )
    else:
        _validate(Cluster, profile, ())
    document.problems += [
        (at, f"cluster.profile: {_locate(path, mark)}{text}") for mark, text in profile.problems
    ]
    if not profile.problems:
        document.data["cluster"] = {**profile.data, **section}


def _check_structure(document: _Document, folder: Path) -> None:
    """Check that the structure files exist, before a run is started."""
    section = document.data.get("system")
    replicas = document.data.get("replicas")
    listed = replicas.get("structures") if isinstance(replicas, dict) else None
    for number, name in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(name, str) and not (folder / name).is_file():
            document.problems.append(
                (
                    document.values["replicas", "structures", number],
                    f"replicas.structures: there is no file '{name}' beside the config file",
                )
            )
    for key in ("structure", "from"):
        name = section.get(key) if isinstance(section, dict) else None
        if isinstance(name, str) and not (folder / name).is_file():
            document.problems.append(
                (
                    document.values[("system", key)],
                    f"system.{key}: there is no file '{name}' beside the config file",
                )
            )

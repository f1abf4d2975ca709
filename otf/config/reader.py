"""Reader of configurations that reports all problems, each with line, column and remedy."""

from pathlib import Path
from typing import Any

from otf.config.cluster import Cluster
from otf.config.document import Document, locate, parse, validate
from otf.config.engine_sections import check_engines
from otf.config.job_defaults import take_in_job
from otf.config.schema import Config, Learning, Model
from otf.config.writer import to_yaml
from otf.errors import ConfigError, EngineError


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
    document = parse(text)
    config = _checked(document, path.parent)
    if document.problems or config is None:
        where = sorted(
            document.problems, key=lambda p: (p[0].line, p[0].column) if p[0] else (0, 0)
        )
        raise ConfigError([locate(path, mark) + text for mark, text in where])
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
    document = parse(to_yaml(data))
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
        document = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        document = Document()
    if not isinstance(document.data, dict) or {"system", "engine", "dynamics"} & set(document.data):
        config = read_config(path)
        return Learning(
            model=config.effective_model,
            policy=config.policy,
            timestep_fs=config.dynamics.timestep_fs,
            seed=config.dynamics.seed,
        )
    check_engines(document, path.parent)
    learning = validate(Learning, document, ())
    if learning is None or document.problems:
        raise ConfigError([locate(path, mark) + text for mark, text in document.problems])
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
    document = parse(to_yaml(data))
    changed = validate(Learning, document, ())
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
    document = parse(to_yaml({"model": data}))
    check_engines(document, Path())
    model = validate(Model, document, ("model",))
    if model is None or document.problems:
        raise ConfigError([text for _, text in document.problems])
    assert isinstance(model, Model)
    return model


def _checked(document: Document, folder: Path) -> Config | None:
    """The configuration of a document, whose problems are added to it."""
    if not isinstance(document.data, dict):
        if not document.problems:
            document.problems.append((None, "expected sections such as 'system:' and 'dynamics:'"))
        return None
    check_engines(document, folder)
    _take_in_profile(document, folder)
    unread, taken = "", list[str]()
    try:
        taken = take_in_job(document.data, folder)
    except EngineError as error:  # reported where the structure or the engine needs the file
        unread = str(error)
    config: Config | None = validate(Config, document, ())
    if config is None and unread:  # what is missing may be in that file
        document.problems.append((document.values.get(("system", "from")), unread))
    _check_structure(document, folder)
    if config is not None:
        config.remember_job(taken)
    return config


def _take_in_profile(document: Document, folder: Path) -> None:
    """Merge the keys of a site's profile into the cluster section, which takes precedence."""
    section = document.data.get("cluster")
    name = section.pop("profile", None) if isinstance(section, dict) else None
    if not isinstance(name, str):
        return
    path = folder / Path(name).expanduser()
    at = document.values["cluster", "profile"]
    try:
        profile = parse(path.read_text(encoding="utf-8"))
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
        validate(Cluster, profile, ())
    document.problems += [
        (at, f"cluster.profile: {locate(path, mark)}{text}") for mark, text in profile.problems
    ]
    if not profile.problems:
        document.data["cluster"] = {**profile.data, **section}


def _check_structure(document: Document, folder: Path) -> None:
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

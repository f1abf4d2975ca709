"""The configuration in a run directory: with all defaults, and names of files that are there."""

from pathlib import Path
from typing import Any, NamedTuple

from otf.config import Config
from otf.config.baseline import AUTO_BASELINE
from otf.config.engine_section import EngineSection
from otf.config.writer import to_yaml
from otf.engines.registry import load_engine, path_options
from otf.runs.plumed_input import FOLDER, INPUT


class EngineFile(NamedTuple):
    """A file that an engine's options name, which becomes part of the run directory.

    Attributes
    ----------
    kind
        The engine.
    term
        Number of the baseline's term that names it; None for the engine of the labels.
    option
        The option.
    path
        The file.
    """

    kind: str
    term: int | None
    option: str
    path: Path

    @property
    def copy(self) -> str:
        """Name of the file in the run directory."""
        owner = "engine" if self.term is None else f"engine_baseline{self.term}"
        return f"{owner}_{self.option}{self.path.suffix}"


def engine_files(config: Config) -> list[EngineFile]:
    """Files that the options of the engine and of the baseline name."""
    found = _files_of(config.engine, None)
    for number, term in enumerate(config.model.baseline):
        found += _files_of(term, number)
    return found


def _files_of(section: EngineSection, term: int | None) -> list[EngineFile]:
    if section.kind == AUTO_BASELINE:
        return []
    options = section.options
    named = path_options(load_engine(section.kind).Options)
    files = [
        EngineFile(section.kind, term, name, Path(options[name]))
        for name in named
        if options.get(name) is not None
    ]
    return [file for file in files if file.path.is_file()]


def resolved_yaml(config: Config, structure: str) -> str:
    """The configuration with all defaults, its structure and the files of its directory.

    Parameters
    ----------
    structure
        Name of the structure file in the run directory.
    """
    data: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    data["system"] = {
        "structure": structure,
        "charge": config.system.charge,
        "spin": config.system.spin,
    }
    for file in engine_files(config):
        section = data["engine"] if file.term is None else data["model"]["baseline"][file.term]
        section[file.option] = file.copy
    if config.dynamics.plumed is not None:
        data["dynamics"]["plumed"] = f"{FOLDER}/{INPUT}"
    data["output"].pop("directory", None)
    if not data["learn_from"]:
        data.pop("learn_from")
    return to_yaml(data)

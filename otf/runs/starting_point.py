"""A configuration for a structure file, or for the input file of an engine."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ase import Atoms
from ase.build import molecule

from otf.config import Config
from otf.config.reader import config_of, read_config
from otf.config.starter import Starter
from otf.dynamics.timestep import usual_timestep_fs
from otf.engines.registry import installed_engines, load_engine
from otf.errors import ConfigError, EngineError, FileError
from otf.io.structure_file import read_structure

EMBEDDED = "tblite"
"""The engine that is always installed."""

_INPUT_FILES = (".fdf", ".dat", ".in", ".inp", ".nw")
_STEPS, _TEMPERATURE_K, _TARGET_MEV_A = 20000, 300.0, 20.0


@dataclass(frozen=True)
class RunOptions:
    """Settings of a new run; None for the usual ones.

    Attributes
    ----------
    engine, command
        Kind of the engine, and how its program is called.
    """

    engine: str | None = None
    command: str | None = None
    steps: int | None = None
    temperature_K: float | None = None
    timestep_fs: float | None = None
    target_meV_A: float | None = None
    charge: int = 0
    spin: int | None = None


def starter_of(path: Path, options: RunOptions, *, folder: Path) -> Starter:
    """A configuration that runs the structure or the job in a file.

    Parameters
    ----------
    folder
        Folder that relative paths of the configuration will start from.

    Raises
    ------
    FileError, EngineError
        If there is no structure in the file, or no such engine.
    """
    if not path.is_file():
        raise FileError(f"{path}: there is no such file; give a structure or an input file")
    name = os.path.relpath(path, folder)
    if path.suffix in _INPUT_FILES:
        return _of_job(path, name, options)
    return _of_structure(read_structure(path), {"structure": (name, "")}, options)


def configuration_of(path: Path, options: RunOptions) -> Config:
    """The configuration in a file, or that of a structure or job in a file.

    Raises
    ------
    ConfigError, FileError, EngineError
        If it cannot be read, or has problems; or if options are given for a configuration, which
        has its own.
    """
    if path.suffix in (".yaml", ".yml"):
        if options != RunOptions():
            raise ConfigError(
                [f"{path}: is a configuration; change it there, or give a structure with options"]
            )
        return read_config(path)
    text = str(starter_of(path, options, folder=path.parent))
    try:
        return config_of(yaml.safe_load(text), path.parent)
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from error


def example(options: RunOptions) -> Starter:
    """A configuration of methane."""
    return _of_structure(molecule("CH4"), {"molecule": ("CH4", "or structure: my.xyz")}, options)


def _of_structure(atoms: Atoms, system: dict[str, tuple[Any, str]], options: RunOptions) -> Starter:
    kind = options.engine or EMBEDDED
    spin = options.spin
    if spin is None:  # the least that the electrons allow
        spin = int(atoms.numbers.sum() - options.charge) % 2
    usual = {
        "ensemble": "csvr",
        "steps": _STEPS,
        "timestep_fs": usual_timestep_fs(atoms),
        "temperature_K": _TEMPERATURE_K,
        "seed": 1,
    }
    where = "periodic" if atoms.pbc.any() else "in vacuum"
    return Starter(
        title=f"{atoms.get_chemical_formula()}, {len(atoms)} atoms, {where}.",
        system={
            **system,
            "charge": (options.charge, "total charge, e"),
            "spin": (spin, "number of unpaired electrons"),
        },
        kind=kind,
        options=load_engine(kind).Options,
        given=_command(options),
        dynamics=usual | _dynamics(options),
        target_meV_A=options.target_meV_A or _TARGET_MEV_A,
    )


def _of_job(path: Path, name: str, options: RunOptions) -> Starter:
    kind = options.engine or _engine_of(path)
    engine = load_engine(kind)
    job = engine.job(path)
    usual: dict[str, Any] = {"steps": _STEPS, "timestep_fs": usual_timestep_fs(job.atoms)}
    if "ensemble" not in job.dynamics:
        usual |= {"ensemble": "csvr", "temperature_K": _TEMPERATURE_K}
    lacking = {key: value for key, value in usual.items() if key not in job.dynamics}
    return Starter(
        title=f"The job of {path.name}: {job.atoms.get_chemical_formula()}.",
        system={"from": (name, "structure, constraints, masses, velocities, dynamics")},
        kind=kind,
        options=engine.Options,
        given={"template": name, **_command(options)},
        dynamics=lacking | _dynamics(options),
        target_meV_A=options.target_meV_A or _TARGET_MEV_A,
    )


def _engine_of(path: Path) -> str:
    """The engine that reads an input file."""
    problems = []
    for kind in sorted(installed_engines()):
        try:
            load_engine(kind).job(path)
        except EngineError as error:
            if "reads no structures" not in str(error):
                problems.append(f"as an input file of {kind}: {error}")
        else:
            return kind
    raise FileError(
        f"{path}: no engine reads it; name the engine (--engine), or give a structure file:\n"
        + "\n".join(problems)
    )


def _dynamics(options: RunOptions) -> dict[str, Any]:
    named = {
        "steps": options.steps,
        "timestep_fs": options.timestep_fs,
        "temperature_K": options.temperature_K,
    }
    return {key: value for key, value in named.items() if value is not None}


def _command(options: RunOptions) -> dict[str, Any]:
    return {} if options.command is None else {"command": options.command}

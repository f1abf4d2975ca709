"""Options of the commands that start from a structure or an input file."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import click

_ENGINE = {
    "engine": click.option(
        "--engine", help="Engine, such as siesta; default: tblite, or that of the file."
    ),
    "command": click.option("--command", help="How its program is called: 'mpirun -np 16 siesta'."),
    "charge": click.option("--charge", type=int, default=0, help="Total charge, e."),
    "spin": click.option(
        "--spin", type=click.IntRange(min=0), help="Number of unpaired electrons."
    ),
}
_DYNAMICS = {
    "steps": click.option("--steps", type=click.IntRange(min=1), help="Number of steps."),
    "temperature_K": click.option(
        "--temperature", "temperature_K", type=float, help="Temperature, K."
    ),
    "timestep_fs": click.option("--timestep", "timestep_fs", type=float, help="Timestep, fs."),
    "target_meV_A": click.option(
        "--target", "target_meV_A", type=float, help="Error to stay below, meV/Angstrom."
    ),
}

Command = Callable[..., None]


def engine_options(command: Command) -> Command:
    """Add the options of the engine; the command is called with them as ``options``."""
    return _with(_ENGINE, command)


def run_options(command: Command) -> Command:
    """Add the options of engine and dynamics; the command is called with them as ``options``."""
    return _with({**_ENGINE, **_DYNAMICS}, command)


def _with(options: Mapping[str, Callable[[Command], Command]], command: Command) -> Command:
    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        from otf.runs.starting_point import RunOptions

        mine = {name: given.pop(name) for name in options}
        command(options=RunOptions(**mine), **given)

    decorated: Command = with_options
    for option in reversed(list(options.values())):
        decorated = option(decorated)
    return decorated

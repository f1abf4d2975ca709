"""Groups of options that several commands have, or that make one object."""

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

_ADDRESS = {
    "host": click.option(
        "--host", default="localhost", show_default=True, help="Host of the driver."
    ),
    "port": click.option("--port", type=click.IntRange(1, 65535), default=31415, show_default=True),
    "unix": click.option(
        "--unix", help="Name of the driver's unix socket, in place of host and port."
    ),
}

Command = Callable[..., None]


def engine_options(command: Command) -> Command:
    """Add the options of the engine; the command is called with them as ``options``."""
    return _with(_ENGINE, "options", _run_options, command)


def run_options(command: Command) -> Command:
    """Add the options of engine and dynamics; the command is called with them as ``options``."""
    return _with({**_ENGINE, **_DYNAMICS}, "options", _run_options, command)


def address_options(command: Command) -> Command:
    """Add the address of a driving program; the command is called with it as ``address``."""
    return _with(_ADDRESS, "address", _address, command)


def _run_options(**given: Any) -> object:
    from otf.runs.starting_point import RunOptions

    return RunOptions(**given)


def _address(**given: Any) -> object:
    from otf.postprocess.serve import Address

    return Address(**given)


def _with(
    options: Mapping[str, Callable[[Command], Command]],
    name: str,
    make: Callable[..., object],
    command: Command,
) -> Command:
    """Add options, of which one argument of the command is made."""

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        made = make(**{option: given.pop(option) for option in options})
        command(**{name: made}, **given)

    decorated: Command = with_options
    for option in reversed(list(options.values())):
        decorated = option(decorated)
    return decorated

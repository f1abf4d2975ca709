"""Options of the commands that start from a structure or an input file."""

import functools
from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option("--engine", help="Engine, such as siesta; default: tblite, or that of the file."),
    click.option("--command", help="How its program is called: 'mpirun -np 16 siesta'."),
    click.option("--steps", type=click.IntRange(min=1), help="Number of steps."),
    click.option("--temperature", "temperature_K", type=float, help="Temperature, K."),
    click.option("--timestep", "timestep_fs", type=float, help="Timestep, fs."),
    click.option("--target", "target_meV_A", type=float, help="Error to stay below, meV/Angstrom."),
    click.option("--charge", type=int, default=0, help="Total charge, e."),
    click.option("--spin", type=click.IntRange(min=0), help="Number of unpaired electrons."),
)


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options; the command is called with them as ``options``."""

    @functools.wraps(command)
    def with_options(
        *,
        engine: str | None,
        steps: int | None,
        temperature_K: float | None,
        timestep_fs: float | None,
        target_meV_A: float | None,
        charge: int,
        spin: int | None,
        **others: Any,
    ) -> None:
        from otf.runs.starting_point import RunOptions

        command(
            options=RunOptions(
                engine,
                others.pop("command"),
                steps,
                temperature_K,
                timestep_fs,
                target_meV_A,
                charge,
                spin,
            ),
            **others,
        )

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options

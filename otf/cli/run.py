"""``otf run``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from otf.cli.mpi import with_mpi_ranks
from otf.cli.run_options import run_options

if TYPE_CHECKING:
    from otf.model.tensor_energy import Ranks
    from otf.runs.starting_point import RunOptions


@click.command("run")
@click.argument("config", type=click.Path(path_type=Path))
@run_options
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Run directory (default: runs/<CONFIG's name>).",
)
@click.option("--seed", type=click.IntRange(min=0), help="Replaces dynamics.seed.")
@click.option(
    "--again",
    type=click.Choice(["requeue", "chain"]),
    help="At the time limit of a Slurm job: requeue the job, or submit another that follows it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@with_mpi_ranks
def command(
    *,
    config: Path,
    options: "RunOptions",
    output: Path | None,
    seed: int | None,
    again: Literal["requeue", "chain"] | None,
    as_json: bool,
    ranks: "Ranks | None",
) -> None:
    """Run molecular dynamics from a configuration, a structure or an input file of an engine.

    The options of engine and dynamics belong to the latter two; `otf init` writes what they make,
    as a configuration to edit. All files go to a new run directory, from which `otf resume`
    continues after a stop or a kill.
    """
    from otf.cli.progress import warnings_shown
    from otf.cli.session import run_to_end
    from otf.runs.create import create_run
    from otf.runs.learn_from import fitting_runs
    from otf.runs.session import default_directory
    from otf.runs.starting_point import configuration_of

    parsed = configuration_of(config, options)
    if seed is not None:
        dynamics = parsed.dynamics.model_copy(update={"seed": seed})
        parsed = parsed.model_copy(update={"dynamics": dynamics})
    for line in parsed.from_job:
        click.echo(line, err=True)
    with warnings_shown():
        run = create_run(parsed, config, output or default_directory(parsed, config))
    fitting = None if parsed.learn_from else next(fitting_runs(parsed, run), None)
    if fitting is not None:
        beside = os.path.relpath(fitting, config.parent)
        click.echo(
            f"{fitting} has labels of the same engine and settings; with `learn_from: [{beside}]` "
            "this run would start with them",
            err=True,
        )
    run_to_end(run.path, as_json=as_json, again=again, ranks=ranks)

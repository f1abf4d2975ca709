"""``otf submit``."""

from pathlib import Path

import click


@click.command("submit")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Run directory (default: runs/<CONFIG's name>).",
)
@click.option("--dry-run", is_flag=True, help="Only print the batch script.")
def command(source: Path, output: Path | None, dry_run: bool) -> None:
    """Submit a run to Slurm, as one batch job or several in succession.

    SOURCE is a configuration, whose `cluster` section gives the resources of the job, or the
    directory of a run to continue.
    """
    from otf.slurm.submission import planned_script, submitted

    if dry_run:
        click.echo(planned_script(source, output), nl=False)
        return
    job, run = submitted(source, output)
    click.echo(f"job {job}: {run}\n`otf queue` shows it, `otf cancel {run}` stops it cleanly")

"""``otf cancel``."""

from pathlib import Path

import click


@click.command("cancel")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--now", is_flag=True, help="Do not wait for the label that is being computed.")
def command(run_dir: Path, now: bool) -> None:
    """Stop the job of a run at its next safe point, so that no label is lost."""
    from otf.slurm.submission import cancelled

    for line in cancelled(run_dir, now=now):
        click.echo(line)

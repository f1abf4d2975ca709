"""``otf report``."""

import time
from pathlib import Path

import click

from otf.cli.output_file import OutputFile, force_option


@click.command("report")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--output", type=OutputFile(), help="Default: report.html in the run directory.")
@force_option
@click.option(
    "--watch",
    "every_s",
    type=click.FloatRange(min=1.0),
    help="Rewrite it at this interval, seconds, until the run ends.",
)
def command(run_dir: Path, output: Path | None, every_s: float | None) -> None:
    """Write an HTML report of a run, also during it: errors, energies, g(r), the atoms."""
    from otf.postprocess.status import overview
    from otf.report.page import write_report
    from otf.report.replicas import write_replicas_report
    from otf.runs.directory import replicas_below

    if replicas_below(run_dir):
        if every_s is not None:
            raise click.UsageError("--watch takes the directory of one replica")
        click.echo(f"written: {write_replicas_report(run_dir, output)}")
        return
    while every_s is not None and overview(run_dir).state == "running":
        if (run_dir / "checkpoint.h5").exists():
            click.echo(f"written: {write_report(run_dir, output, refresh_s=every_s)}")
        else:
            click.echo("no label yet")
        time.sleep(every_s)
    click.echo(f"written: {write_report(run_dir, output)}")

"""``otf report``."""

from pathlib import Path

import click


@click.command("report")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), help="Default: report.html in the run directory."
)
def command(run_dir: Path, output: Path | None) -> None:
    """Write a page about a run, also while it goes on: errors, energies, g(r), with pictures."""
    from otf.driver.report import write_report

    click.echo(f"written: {write_report(run_dir, output)}")

"""``otf resume``."""

from pathlib import Path

import click


@click.command("resume")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(run_dir: Path, as_json: bool) -> None:
    """Go on with a run that was stopped or killed.

    The trajectory continues from its last commit, to the same bits it would have had without the
    interruption; labels that were paid for are read, not computed again.
    """
    from otf.cli.sitting import sit

    sit(run_dir, as_json=as_json)

"""``otf run``."""

from pathlib import Path

import click


@click.command("run")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Run directory (default: runs/<CONFIG's name>).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(config: Path, output: Path | None, as_json: bool) -> None:
    """Run molecular dynamics from a configuration.

    Everything goes to a new directory, from which `otf resume` continues after a stop or a kill.
    """
    from otf.cli.sitting import sit
    from otf.config import read_config
    from otf.driver.directory import create_run
    from otf.driver.session import default_directory

    parsed = read_config(config)
    run = create_run(parsed, config, output or default_directory(parsed, config))
    sit(run.path, as_json=as_json)

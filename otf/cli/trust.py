"""The option ``--trust`` of commands that run the engine of an existing directory."""

from pathlib import Path

import click

trust_option = click.option(
    "--trust", is_flag=True, help="Run the engine of a directory that belongs to another user."
)


def require_trust(run_dir: Path, *, trusted: bool) -> None:
    """Refuse to run the engine of another user's run directory unless it is trusted.

    Raises
    ------
    RunError
        If it is not.
    """
    from otf.runs.directory import read_run
    from otf.runs.trust import check_trusted

    run, config, _ = read_run(run_dir)
    check_trusted(config, run.config, trusted=trusted)

"""``otf resume``."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from otf.cli.mpi import with_mpi_ranks
from otf.cli.trust import require_trust, trust_option

if TYPE_CHECKING:
    from otf.model.tensor_energy import Ranks


@click.command("resume")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--steps", type=click.IntRange(min=1), help="New length of the run, saved in its configuration."
)
@click.option(
    "--again",
    type=click.Choice(["requeue", "chain"]),
    help="At the time limit of a Slurm job: requeue the job, or submit another that follows it.",
)
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@with_mpi_ranks
def command(
    *,
    run_dir: Path,
    steps: int | None,
    again: Literal["requeue", "chain"] | None,
    trust: bool,
    as_json: bool,
    ranks: "Ranks | None",
) -> None:
    """Continue a run that was stopped or killed, or extend it.

    The trajectory continues from its last commit and is bitwise identical to that of an
    uninterrupted run; stored labels are read, not computed again.
    """
    from otf.cli.session import run_to_end
    from otf.runs.directory import change_steps

    require_trust(run_dir, trusted=trust)
    if steps is not None:
        change_steps(run_dir, steps)
    run_to_end(run_dir, as_json=as_json, again=again, ranks=ranks)

"""``otf list``."""

from pathlib import Path

import click


@click.command("list")
@click.argument(
    "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default="runs"
)
def command(folder: Path) -> None:
    """List the runs in a folder and below, one per line."""
    from otf.postprocess.status import overview, runs_below

    found = [overview(path) for path in runs_below(folder)]
    if not found:
        click.echo(f"no runs in {folder}")
        return
    width = max(len(str(o.path)) for o in found)
    for o in found:
        if o.problem:
            click.echo(f"{o.path!s:<{width}}  damaged    {o.problem.splitlines()[0]}")
            continue
        share = f"{o.step}/{o.steps}"
        error = "" if o.last is None or o.labels < 2 else f"{1e3 * o.last.force_mae:.1f} meV/A"
        click.echo(
            f"{o.path!s:<{width}}  {o.state:<9}  {share:>13} steps  {o.labels:>5} labels  "
            f"{error:>11}  {o.system} by {o.engine}"
        )

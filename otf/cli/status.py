"""``otf status``."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from otf.postprocess.status import Overview

_BAR = 40


@click.command("status")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--watch",
    "every_s",
    type=click.FloatRange(min=0.1),
    help="Repeat at this interval, seconds, until the run ends.",
)
def command(run_dir: Path, every_s: float | None) -> None:
    """Show the state of a run, also while it is running, from its files."""
    from otf.postprocess.status import overview

    while True:
        found = overview(run_dir)
        click.echo("\n".join(_lines(found)))
        if every_s is None or found.state != "running":
            return
        time.sleep(every_s)
        click.echo()


def _lines(o: "Overview") -> list[str]:
    if o.problem:
        return [f"{o.path}: damaged", o.problem]
    done = o.step / max(1, o.steps)
    bar = "#" * round(_BAR * min(1.0, done))
    lines = [
        f"{o.path}: {o.state}; {o.system} by {o.engine}",
        f"[{bar:.<{_BAR}}] step {o.step} of {o.steps}, {1e-3 * o.step * o.timestep_fs:.3g} ps",
    ]
    if o.last is None:
        return [*lines, "no label yet"]
    lines.append(f"labels    {o.labels} ({o.labels_percent:.2f} % of the steps)")
    if o.cost is not None:
        lines.append(f"time      {o.cost.in_words()}")
    lines.append(
        f"last      step {o.last.step} ({o.last.reason}): force MAE {1e3 * o.last.force_mae:.2f} "
        f"meV/A, expected {1e3 * o.last.predicted:.2f}; "
        + (f"next in {o.gap} steps" if o.gap else "a label at every step")
    )
    if o.contract is not None:
        lines.append(f"contract  {o.contract.in_words()}")
    if o.idle_s is not None:
        lines.append(f"commit    {o.idle_s:.0f} s ago")
    if o.state == "stopped":
        lines.append(f"go on     otf resume {o.path}")
    return lines

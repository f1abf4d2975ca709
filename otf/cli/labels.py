"""``otf labels``."""

from pathlib import Path

import click


@click.command("labels")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--drop", "index", type=click.IntRange(min=0), help="Take out the label number N.")
@click.option("--reason", default="dropped by hand", help="Written beside the dropped label.")
def command(run_dir: Path, index: int | None, reason: str) -> None:
    """List the labels of a run with the model's errors, or take one out.

    A dropped label is kept in labels.quarantine.extxyz. The model is learned anew from the other
    labels; `otf resume` goes on with it.
    """
    from otf.runs.drop_label import drop_label
    from otf.units import MEV

    if index is not None:
        kept = drop_label(run_dir, index, reason=reason)
        click.echo(f"label {index} is in {kept}; `otf resume {run_dir}` goes on without it")
        return
    from otf.runs.checkpoint import read_checkpoint
    from otf.runs.directory import one_run, read_run

    run, _, _ = read_run(one_run(run_dir))
    click.echo(f"{'label':>5} {'step':>8} {'reason':<10} {'force MAE':>10} {'largest':>9}  energy")
    click.echo(f"{'':25}{'meV/A':>10} {'meV/A':>9}  meV/atom")
    for r in read_checkpoint(run.checkpoint).state.history:
        click.echo(
            f"{r.index:>5} {r.step:>8} {r.reason:<10} {r.force_mae / MEV:>10.2f} "
            f"{r.force_max / MEV:>9.2f}  {r.energy_error / MEV:.3f}"
        )

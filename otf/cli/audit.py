"""``otf audit``."""

import math
from dataclasses import asdict
from pathlib import Path

import click

from otf.cli.json_text import to_json


@click.command("audit")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Label every N-th frame.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, with every frame.")
def command(run_dir: Path, every: int, as_json: bool) -> None:
    """Measure the true errors of a run by labelling its frames afterwards.

    Only frames with forces of the model are counted. The engine computes a new label for each,
    outside the run directory.
    """
    from otf.postprocess.audit import audit, audit_summary

    frames = list(audit(run_dir, every=every))
    summary = audit_summary(frames)
    if as_json:
        per_frame = [{"step": f.step, "energy_error_eV_atom": f.energy_error} for f in frames]
        click.echo(to_json({**asdict(summary), "per_frame": per_frame}))
        return
    click.echo(
        f"{summary.frames} frames with forces of the model, every {every}th labelled by the engine"
    )
    click.echo(
        f"force   MAE {summary.force_mae_meV_A:.2f} meV/A, 95th percentile "
        f"{summary.force_p95_meV_A:.2f}, largest {summary.force_max_meV_A:.2f}"
    )
    if math.isnan(summary.energy_mae_meV_atom):
        click.echo("energy  none: self coupling predicts forces only")
        return
    click.echo(
        f"energy  MAE {summary.energy_mae_meV_atom:.4f} meV/atom, "
        f"{summary.energy_spread_meV_atom:.4f} without its mean"
    )
    if not math.isnan(summary.stress_mae_GPa):
        click.echo(f"stress  MAE {summary.stress_mae_GPa:.3f} GPa, of the final model")

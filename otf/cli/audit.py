"""``otf audit``."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otf.cli.json_text import to_json
from otf.cli.recorded import show_progress
from otf.cli.trust import require_trust, trust_option
from otf.errors import RunError

if TYPE_CHECKING:
    from otf.postprocess.audit import AuditSummary


@click.command("audit")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Label every N-th frame.",
)
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Engines that label side by side; each with the ranks of the configuration.",
)
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, with every frame.")
def command(*, run_dir: Path, every: int, at_once: int, trust: bool, as_json: bool) -> None:
    """Measure the true errors of a run by labelling its frames afterwards.

    Only frames with forces of the model are counted. The labels are kept in labels.audit.extxyz; an
    audit that was interrupted reports what it has, and continues from there when it is repeated.
    """
    from otf.postprocess.audit import Audit, audit_summary

    require_trust(run_dir, trusted=trust)
    audit = Audit(run_dir, every=every)
    frames, failure = [], None
    try:
        for frame in audit.frames(at_once=at_once):
            frames.append(frame)
            show_progress(f"{len(frames)} of {len(audit)} frames labelled")
    except (KeyboardInterrupt, RunError) as error:
        if not frames:
            raise
        failure = str(error) or "interrupted"
    show_progress("")
    frames.sort(key=lambda frame: frame.step)
    summary = audit_summary(frames)
    if as_json:
        per_frame = [
            {
                "step": f.step,
                "energy_error_eV_atom": f.energy_error,
                "force_mae_meV_A": f.force_mae_meV_A,
            }
            for f in frames
        ]
        click.echo(to_json({**asdict(summary), "per_frame": per_frame}))
    else:
        _print(summary, every)
    if failure is not None:
        raise RunError(
            f"only {len(frames)} of {len(audit)} frames were labelled: {failure}; repeat the "
            "command to continue"
        )


def _print(summary: "AuditSummary", every: int) -> None:
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

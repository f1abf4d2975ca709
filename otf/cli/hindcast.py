"""``otf hindcast``."""

from pathlib import Path

import click

from otf.cli.json_text import to_json
from otf.cli.recorded import keys_option, read_keys, show_progress


@click.command("hindcast")
@click.argument("trajectory", type=click.Path(path_type=Path))
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Configuration whose model and policy are used; a file with these sections is enough.",
)
@click.option("--target", type=float, help="Target for the mean absolute force error, meV/A.")
@click.option("--timestep", type=float, help="Time between frames, fs.")
@keys_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    *,
    trajectory: Path,
    config: Path | None,
    target: float | None,
    timestep: float | None,
    keys: str | None,
    as_json: bool,
) -> None:
    """Replay the protocol over a recorded trajectory, without an engine.

    Estimates the cost and the errors of a run before any DFT is computed: every frame is
    predicted, and those that the policy selects are learned. The errors are those of predictions
    made before the next label; they are larger than in a run, which replays each segment.
    """
    from otf.config.reader import learning_with, read_learning
    from otf.config.schema import Learning
    from otf.postprocess.hindcast import hindcast_file, hindcast_summary

    learning = read_learning(config) if config else Learning()
    learning = learning_with(learning, target=target, timestep=timestep)
    frames, labels = [], 0
    for frame in hindcast_file(trajectory, learning, read_keys(keys)):
        frames.append(frame)
        if frame.labelled:
            labels += 1
            show_progress(f"frame {frame.index}, {labels} labels")
    show_progress("")
    summary = hindcast_summary(frames)
    if as_json:
        click.echo(to_json(summary))
        return
    click.echo(
        f"labels  {summary['labels']} of {summary['steps']} frames "
        f"({summary['labels_percent']:.2f} %)"
    )
    if summary["force_mae_meV_A"] is None:
        click.echo("errors  none: every frame was labelled")
        return
    click.echo(
        f"force   MAE {summary['force_mae_meV_A']:.2f} meV/A, 95th percentile of frames "
        f"{summary['force_p95_meV_A']:.2f}"
    )
    if summary["energy_mae_meV_atom"] is not None:
        click.echo(f"energy  MAE {summary['energy_mae_meV_atom']:.4f} meV/atom")
    if summary["coverage_percent"] is not None:
        click.echo(f"        {summary['coverage_percent']:.0f} % within two predicted errors")
    click.echo("force MAE by steps since the last label:")
    for age, error in summary["force_mae_meV_A_by_steps_since_label"].items():
        click.echo(f"  {age:>8}  {error:.2f} meV/A")

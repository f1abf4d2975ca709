"""``otf compare``."""

from pathlib import Path

import click

from otf.cli.output_file import OutputFile, force_option


@click.command("compare")
@click.argument("one", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@click.option(
    "--cutoff",
    "cutoff_A",
    type=float,
    default=6.0,
    show_default=True,
    help="Largest distance, Angstrom.",
)
@click.option(
    "--bin", "bin_A", type=float, default=0.05, show_default=True, help="Bin width, Angstrom."
)
@click.option("--from", "start_fs", type=float, help="First time, fs, in both.")
@click.option("--every", type=click.IntRange(min=1), default=1, help="Use every N-th frame only.")
@click.option("--timestep-fs", type=float, help="Time between frames, for files without times.")
@click.option("--output", type=OutputFile(), help="A picture: .png, .svg or .pdf.")
@force_option
def command(
    *,
    one: Path,
    other: Path,
    cutoff_A: float,
    bin_A: float,
    start_fs: float | None,
    every: int,
    timestep_fs: float | None,
    output: Path | None,
) -> None:
    """Test whether the radial distribution functions of two runs are equal within their errors.

    For example, an accelerated run and full AIMD. Of a run in stages, the last stage is used. The
    exit code is 0 if equality is not rejected, 1 if the runs differ.
    """
    from otf.analysis.compare import compare
    from otf.analysis.picture import draw_together
    from otf.io.read_frames import read_frames

    runs = [
        read_frames(path, timestep_fs=timestep_fs).of_stage(None).between(start_fs, None, every)
        for path in (one, other)
    ]
    found = compare(*runs, cutoff_A=cutoff_A, bin_A=bin_A)
    click.echo(
        f"{'equal within errors' if found.equal else 'NOT equal'}: p = {found.p_value:.3g} of a "
        f"difference this large by chance, area between the curves "
        f"{found.difference_percent:.2g} %"
    )
    if output is not None:
        draw_together({str(one): found.one, str(other): found.other}, output)
        click.echo(f"written: {output}")
    raise SystemExit(0 if found.equal else 1)

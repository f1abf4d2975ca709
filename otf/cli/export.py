"""``otf export``."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otf.cli.output_file import OutputFile, force_option
from otf.errors import RunError

if TYPE_CHECKING:
    from otf.io.labels import StoredLabel

_BY_ENDING = {".extxyz": "extxyz", ".xyz": "extxyz", ".traj": "traj", ".db": "db"} | {
    ".lammpstrj": "lammps-dump",
    ".dump": "lammps-dump",
    ".h5": "h5md",
    ".h5md": "h5md",
}


@click.command("export")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("output", type=OutputFile())
@force_option
@click.option(
    "--as",
    "kind",
    help="Format: extxyz, traj, db, xdatcar, lammps-dump, h5md; for labels: mace, gap, deepmd. "
    "Default: from the ending of OUTPUT.",
)
@click.option("--from", "start_fs", type=float, help="First time, fs.")
@click.option("--to", "stop_fs", type=float, help="Last time, fs.")
@click.option("--every", type=click.IntRange(min=1), default=1, help="Use every N-th frame only.")
def command(
    *,
    source: Path,
    output: Path,
    kind: str | None,
    start_fs: float | None,
    stop_fs: float | None,
    every: int,
) -> None:
    """Write frames or labels in the formats of other programs.

    SOURCE is a run directory or any trajectory that `otf analyse` reads.
    """
    from otf.io.export import FRAME_FORMATS, LABEL_FORMATS, write_frames, write_labels
    from otf.io.read_frames import read_frames
    from otf.runs.directory import one_run

    kind = (
        kind
        or _BY_ENDING.get(output.suffix)
        or ("xdatcar" if output.name.startswith("XDATCAR") else None)
    )
    one_run(source)
    if kind in LABEL_FORMATS:
        labels = _chosen(source, start_fs, stop_fs)[::every]
        if not labels:
            raise RunError(f"{source}: no label is between --from and --to")
        _make_room(output)
        write_labels(labels, output, kind)
        click.echo(f"{len(labels)} labels in {output}")
    elif kind in FRAME_FORMATS:
        frames = read_frames(source).between(start_fs, stop_fs, every)
        _make_room(output)
        write_frames(frames, output, kind)
        click.echo(f"{len(frames)} frames in {output}")
    else:
        raise click.UsageError(
            f"cannot infer a format from the name {output}; give --as with one of "
            + ", ".join((*FRAME_FORMATS, *LABEL_FORMATS))
        )


def _chosen(source: Path, start_fs: float | None, stop_fs: float | None) -> list["StoredLabel"]:
    """Labels of a run or of a labels file, in a time interval."""
    from otf.io.labels import read_labels
    from otf.runs.directory import read_run

    if not source.is_dir():
        if start_fs is not None or stop_fs is not None:
            raise click.UsageError("--from and --to need a run directory, which has the timestep")
        return read_labels(source)
    run, config, _ = read_run(source)
    step_fs = config.dynamics.timestep_fs
    first = -math.inf if start_fs is None else start_fs
    last = math.inf if stop_fs is None else stop_fs
    return [s for s in read_labels(run.labels) if first <= s.step * step_fs <= last]


def _make_room(output: Path) -> None:
    """Remove the file that is to be overwritten; a folder stays, and is refused."""
    if output.is_file():
        output.unlink()

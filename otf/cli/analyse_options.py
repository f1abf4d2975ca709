"""What the commands of ``otf analyse`` share: trajectories in, curves out."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from otf.cli.output_file import OutputFile, force_option

if TYPE_CHECKING:
    from otf.analysis.curves import Curves
    from otf.io.frames import Frames

_PICTURES = (".png", ".svg", ".pdf")


def of_frames(
    function: Callable[..., "Curves"], *, with_paths: bool = False, removes_bias: bool = False
) -> Callable[..., None]:
    """Decorator that passes trajectories to a command and prints or writes the returned curves.

    Parameters
    ----------
    with_paths
        Whether to pass the paths, too, before the trajectories.
    removes_bias
        Whether the curves are those without the bias of the run.
    """

    @functools.wraps(function)
    def run(
        *,
        paths: tuple[Path, ...],
        start_fs: float | None,
        stop_fs: float | None,
        every: int,
        timestep_fs: float | None,
        stage: str | None,
        output: tuple[Path, ...],
        **options: Any,
    ) -> None:
        from otf.io.read_frames import read_frames
        from otf.runs.directory import is_biased, replicas_below

        paths = tuple(p for path in paths for p in replicas_below(path) or [path])
        runs = [
            read_frames(path, timestep_fs=timestep_fs)
            .of_stage(stage)
            .between(start_fs, stop_fs, every)
            for path in paths
        ]
        if "reweight" in options:
            options["reweight"] = _run_of(paths) if options["reweight"] else None
        given = (paths, runs) if with_paths else (runs,)
        curves = function(*given, **options)
        if not removes_bias and any(is_biased(path) for path in paths):
            note = "averages with the bias of the run (dynamics.bias)"
            curves = replace(curves, notes=(*curves.notes, note))
        show_or_write(curves, output)

    for option in (
        click.option(
            "--output",
            multiple=True,
            type=OutputFile(),
            help="A .csv, .txt, .h5, .png, .svg or .pdf file; may be given more than once.",
        ),
        force_option,
        click.option("--stage", help="Stage of the run, or: all. Default: the last."),
        positive(
            "--timestep-fs", "timestep_fs", None, "Time between frames, for files without times."
        ),
        click.option(
            "--every", type=click.IntRange(min=1), default=1, help="Use every N-th frame only."
        ),
        click.option("--to", "stop_fs", type=float, help="Last time, fs."),
        click.option("--from", "start_fs", type=float, help="First time, fs."),
        click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path)),
    ):
        run = option(run)
    return run


def _run_of(paths: tuple[Path, ...]) -> Path:
    if len(paths) != 1 or not paths[0].is_dir():
        raise click.UsageError("--reweight takes one run directory: it needs the labels of the run")
    return paths[0]


reweightable = click.option(
    "--reweight", is_flag=True, help="Reweight model averages to the engine, by the run's labels."
)


def reweighted_by_run(
    run: Path | None, runs: list["Frames"], analyse: Callable[[list["Frames"]], "Curves"]
) -> "Curves":
    """Analyse the frames, reweighted to the engine if a run directory is given."""
    from otf.postprocess.reweighted import reweighted

    if run is None:
        return analyse(runs)
    return reweighted(run, runs[0], lambda frames: analyse([frames]))


def positive(name: str, to: str, default: float | None, text: str) -> Callable[..., Any]:
    """Option for a positive number."""
    return click.option(
        name,
        to,
        type=click.FloatRange(min=0.0, min_open=True),
        default=default,
        show_default=default is not None,
        help=text,
    )


def show_or_write(curves: "Curves", output: tuple[Path, ...]) -> None:
    """Print curves, or write them to the files that were named."""
    from otf.io.curves_file import as_text, write_curves

    comments = [curves.title, *curves.notes]
    comments += [f"{name} = {_number(e.mean, e.error)}" for name, e in curves.numbers.items()]
    columns = {curves.x_name: curves.x}
    for name, found in curves.y.items():
        columns[name] = found.mean
        if np.isfinite(found.error).any():
            columns[f"{name}_error"] = found.error
    for path in output:
        if path.suffix in _PICTURES:
            from otf.analysis.picture import draw

            draw(curves, path)
        else:
            write_curves(path, columns, comments)
    if output:
        click.echo("\n".join(comments + [f"written: {path}" for path in output]))
    else:
        click.echo("\n".join(as_text(columns, comments)))


def _number(mean: Any, error: Any) -> str:
    return f"{float(mean):.6g}" + (f" +- {float(error):.2g}" if np.isfinite(error) else "")

"""``otf analyse``: distributions, transport and spectra of trajectories, with block errors."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np

if TYPE_CHECKING:
    from otf.analysis.curves import Curves
    from otf.io.frames import Frames

_PICTURES = (".png", ".svg", ".pdf")


@click.group("analyse")
def command() -> None:
    """Distributions, transport and spectra, each with block errors.

    A PATH is a run directory or any trajectory: extxyz, XDATCAR, OpenMX .md, SIESTA .MD and .ANI,
    and all other formats of ASE. Several are analysed together.
    """


def _of_frames(
    function: Callable[..., "Curves"], *, with_paths: bool = False
) -> Callable[..., None]:
    """Decorator that passes trajectories to a command and prints or writes the returned curves.

    Parameters
    ----------
    with_paths
        Whether to pass the paths, too, before the trajectories.
    """

    @functools.wraps(function)
    def run(
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
        from otf.runs.directory import replicas_below

        paths = tuple(p for path in paths for p in replicas_below(path) or [path])
        runs = [
            read_frames(path, timestep_fs=timestep_fs)
            .of_stage(stage)
            .between(start_fs, stop_fs, every)
            for path in paths
        ]
        if "correct" in options:
            options["correct"] = _run_of(paths) if options["correct"] else None
        given = (paths, runs) if with_paths else (runs,)
        _show(function(*given, **options), output)

    for option in (
        click.option(
            "--output",
            multiple=True,
            type=click.Path(path_type=Path),
            help="A .csv, .txt, .h5, .png, .svg or .pdf file; may be given more than once.",
        ),
        click.option("--stage", help="Stage of the run, or: all. Default: the last."),
        _positive(
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
        raise click.UsageError("--correct takes one run directory: it needs the labels of the run")
    return paths[0]


_correct = click.option(
    "--correct", is_flag=True, help="Correct model averages to the engine, by the run's labels."
)


def _by_engine(
    run: Path | None, runs: list["Frames"], analyse: Callable[[list["Frames"]], "Curves"]
) -> "Curves":
    """Analyse the frames, corrected to the engine if a run directory is given."""
    from otf.postprocess.reweighted import corrected

    if run is None:
        return analyse(runs)
    return corrected(run, runs[0], lambda frames: analyse([frames]))


def _positive(name: str, to: str, default: float | None, text: str) -> Callable[..., Any]:
    """Option for a positive number."""
    return click.option(
        name,
        to,
        type=click.FloatRange(min=0.0, min_open=True),
        default=default,
        show_default=default is not None,
        help=text,
    )


def _show(curves: "Curves", output: tuple[Path, ...]) -> None:
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


@command.command("rdf")
@_positive("--cutoff", "cutoff_A", 6.0, "Largest distance, Angstrom; may exceed the cell.")
@_positive("--bin", "bin_A", 0.05, "Bin width, Angstrom.")
@_correct
@_of_frames
def rdf(runs: list["Frames"], cutoff_A: float, bin_A: float, correct: Path | None) -> "Curves":
    """Radial distribution functions of all pairs of species, and coordination numbers."""
    from otf.analysis.rdf import rdf as analyse

    return _by_engine(correct, runs, functools.partial(analyse, cutoff_A=cutoff_A, bin_A=bin_A))


@command.command("adf")
@_positive("--cutoff", "cutoff_A", 3.0, "Largest distance of neighbours, Angstrom.")
@_positive("--bin", "bin_degrees", 2.0, "Bin width, degrees.")
@_of_frames
def adf(runs: list["Frames"], cutoff_A: float, bin_degrees: float) -> "Curves":
    """Distributions of the angles between neighbours."""
    from otf.analysis.adf import adf as analyse

    return analyse(runs, cutoff_A=cutoff_A, bin_degrees=bin_degrees)


@command.command("msd")
@_positive("--longest", "longest_fs", None, "Longest lag, fs; default: a tenth of the run.")
@_of_frames
def msd(runs: list["Frames"], longest_fs: float | None) -> "Curves":
    """Mean square displacements and diffusion coefficients."""
    from otf.analysis.transport import msd as analyse

    return analyse(runs, longest_fs=longest_fs)


@command.command("vacf")
@_positive("--longest", "longest_fs", 200.0, "Longest lag, fs.")
@_of_frames
def vacf(runs: list["Frames"], longest_fs: float) -> "Curves":
    """Velocity autocorrelation function."""
    from otf.analysis.spectra import vacf as analyse

    return analyse(runs, longest_fs=longest_fs)


@command.command("vdos")
@_positive("--longest", "longest_fs", 1000.0, "Segment length, fs; the resolution is its inverse.")
@_of_frames
def vdos(runs: list["Frames"], longest_fs: float) -> "Curves":
    """Vibrational density of states, by species."""
    from otf.analysis.spectra import vdos as analyse

    return analyse(runs, longest_fs=longest_fs)


@command.command("structure-factor")
@_positive("--q-max", "q_max", 10.0, "Largest wave number, 1/Angstrom.")
@_positive("--bin", "bin_width", 0.1, "Bin width, 1/Angstrom.")
@_correct
@_of_frames
def structure_factor(
    runs: list["Frames"], q_max: float, bin_width: float, correct: Path | None
) -> "Curves":
    """Static structure factor of a crystal or liquid."""
    from otf.analysis.structure_factor import structure_factor as analyse

    chosen = functools.partial(analyse, q_max=q_max, bin_width=bin_width, reference=runs[0])
    return _by_engine(correct, runs, chosen)


@command.command("bonds")
@_positive("--bin", "bin_A", 0.02, "Bin width, Angstrom.")
@_correct
@_of_frames
def bonds(runs: list["Frames"], bin_A: float, correct: Path | None) -> "Curves":
    """Lengths of the bonds of the first frame, and how many are broken."""
    from otf.analysis.bonds import bonds as analyse

    return _by_engine(correct, runs, functools.partial(analyse, bin_A=bin_A, reference=runs[0]))


@command.command("energy")
@_correct
@_of_frames
def energy(runs: list["Frames"], correct: Path | None) -> "Curves":
    """Potential, kinetic and conserved energy over time, and their means."""
    from otf.analysis.series import series

    names = ("potential_energy_eV", "kinetic_energy_eV", "conserved_energy_eV")
    return _by_engine(correct, runs, functools.partial(series, names=names))


@command.command("temperature")
@_of_frames
def temperature(runs: list["Frames"]) -> "Curves":
    """Temperature, and pressure if available, over time, and their means."""
    from otf.analysis.series import series

    return series(runs, ("temperature_K", "pressure_GPa"))


_of_runs = functools.partial(_of_frames, with_paths=True)


@command.command("gap")
@_of_runs
def gap(paths: tuple[Path, ...], runs: list["Frames"]) -> "Curves":
    """Gap between occupied and empty levels over time, and its mean.

    For runs whose engine provides its matrices (engine.warm_start: auto or learned).
    """
    from otf.postprocess.electronic.levels import gap as analyse

    return analyse(paths, runs)


@command.command("dos")
@_positive("--width", "width_eV", 0.1, "Broadening of a level, eV.")
@_positive("--below", "below_eV", 20.0, "Range below the highest occupied level, eV.")
@_positive("--above", "above_eV", 10.0, "Range above it, eV.")
@_of_runs
def dos(
    paths: tuple[Path, ...],
    runs: list["Frames"],
    width_eV: float,
    below_eV: float,
    above_eV: float,
) -> "Curves":
    """Electronic density of states, averaged over the frames; for the same runs as `gap`."""
    from otf.postprocess.electronic.levels import level_density

    return level_density(paths, runs, width_eV=width_eV, below_eV=below_eV, above_eV=above_eV)


@command.command("bands")
@click.option("--path", "k_path", help="Special points such as GXWG; default: all of the lattice.")
@click.option("--points", type=click.IntRange(min=2), default=60, show_default=True)
@_positive("--below", "below_eV", 20.0, "Range below the highest occupied level, eV.")
@_positive("--above", "above_eV", 10.0, "Range above it, eV.")
@_of_runs
def bands(
    paths: tuple[Path, ...],
    runs: list["Frames"],
    k_path: str | None,
    points: int,
    below_eV: float,
    above_eV: float,
) -> "Curves":
    """Band structure of a crystal, averaged over the frames; for the same runs as `gap`."""
    from otf.postprocess.electronic.levels import bands as analyse

    return analyse(paths, runs, k_path=k_path, points=points, below_eV=below_eV, above_eV=above_eV)


@command.command("charges")
@_of_runs
def charges(paths: tuple[Path, ...], runs: list["Frames"]) -> "Curves":
    """Mulliken charges over time, and their means; for the same runs as `gap`."""
    from otf.postprocess.electronic.levels import charges as analyse

    return analyse(paths, runs)


@command.command("dipole")
@_of_runs
def dipole(paths: tuple[Path, ...], runs: list["Frames"]) -> "Curves":
    """Dipole moment of a molecule over time, and its mean; for the same runs as `gap`."""
    from otf.postprocess.electronic.densities import dipoles

    return dipoles(paths, runs)


@command.command("density")
@click.option(
    "--volume",
    required=True,
    type=click.Path(path_type=Path),
    help="A .cube or .h5 file; with several frames, their numbers are added to the name.",
)
@_positive("--spacing", "spacing_A", 0.2, "Grid spacing, Angstrom.")
@click.option(
    "--route",
    type=click.Choice(["dm", "points"]),
    help="From learned density matrices, or learned point by point.  [default: dm, or points with "
    "--learn]",
)
@click.option(
    "--learn",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A density to learn from (.cube, .RHO, .grid.nc) instead of those of the labels; may be "
    "given more than once.",
)
@_of_runs
def density(
    paths: tuple[Path, ...],
    runs: list["Frames"],
    volume: Path,
    spacing_A: float,
    route: Literal["dm", "points"] | None,
    files: tuple[Path, ...],
) -> "Curves":
    """Electron density of every frame on a grid; for the same runs as `gap`.

    A grid does not resolve the steep density near the nuclei; the number of electrons integrated
    on the grid is given to show by how much.
    """
    from otf.postprocess.electronic.densities import densities

    if files and route == "dm":
        raise click.UsageError("--learn needs --route points: a density gives no density matrix")
    return densities(
        paths,
        runs,
        spacing_A=spacing_A,
        volume=volume,
        route=route or ("points" if files else "dm"),
        files=files,
    )


@command.command("phonons")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--supercell", nargs=3, type=click.IntRange(min=1), default=(1, 1, 1), show_default=True,
    help="Repetitions of the cell of the run.",
)  # fmt: skip
@_positive("--displacement", "displacement_A", 0.01, "Displacement of the atoms, Angstrom.")
@click.option("--mesh", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--by-engine", is_flag=True, help="Compute the phonons of the engine, too.")
@click.option(
    "--output",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A .csv, .txt, .h5, .png, .svg or .pdf file; may be given more than once.",
)
def phonons(
    run_dir: Path,
    supercell: tuple[int, int, int],
    displacement_A: float,
    mesh: int,
    by_engine: bool,
    output: tuple[Path, ...],
) -> None:
    """Phonons of a run's model at its energy minimum, by finite displacements."""
    from otf.postprocess.phonons import phonons as analyse

    found = analyse(
        run_dir,
        supercell=supercell,
        displacement_A=displacement_A,
        mesh=mesh,
        by_engine=by_engine,
    )
    _show(found, output)

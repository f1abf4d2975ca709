"""``otf analyse``: electronic structure by learned matrices, and phonons."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from otf.cli.analyse_options import of_frames, positive, show_or_write
from otf.cli.output_file import OutputFile, force_option
from otf.cli.trust import require_trust, trust_option

if TYPE_CHECKING:
    from ase import Atoms

    from otf.analysis.curves import Curves
    from otf.io.frames import Frames
    from otf.postprocess.electronic.learned_matrices import MatrixSource

_Grid = tuple[int, int, int] | None


def _with_model(function: Callable[..., "Curves"]) -> Callable[..., None]:
    """Decorator that passes paths, trajectories, and the model to use."""
    command: Callable[..., None] = of_frames(function, with_paths=True)
    for option in (
        click.option(
            "--kpoints",
            "grid",
            nargs=3,
            type=click.IntRange(min=1),
            help="K points for crystals, with --model.  [default: as dense as in the labels]",
        ),
        click.option(
            "--model",
            type=click.Path(path_type=Path),
            help="A file from `otf electrons learn`, for any structures; default: the labels of "
            "the run.",
        ),
    ):
        command = option(command)
    return command


def _by_matrices(function: Callable[..., "Curves"]) -> Callable[..., None]:
    """Decorator that passes sources of matrices and trajectories to a command."""

    @functools.wraps(function)
    def analyse(
        paths: tuple[Path, ...],
        runs: list["Frames"],
        *,
        model: Path | None,
        grid: _Grid,
        route: Literal["h", "dm"],
        config: Path | None,
        trust: bool,
        **options: Any,
    ) -> "Curves":
        from otf.postprocess.electronic.learned_matrices import sources_of

        if config is not None and route == "h":
            raise click.UsageError("--config needs --route dm: only that route computes anything")
        sources = sources_of(paths, _checked(model, grid), grid)
        with ExitStack() as opened:
            if route == "dm":
                sources = [
                    opened.enter_context(_one_step(source, path, frames.atoms, config, trust=trust))
                    for source, path, frames in zip(sources, paths, runs, strict=True)
                ]
            return function(sources, runs, **options)

    command = _with_model(analyse)
    for option in (
        trust_option,
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            help="Configuration of the engine for --route dm; default: that of the run.",
        ),
        click.option(
            "--route",
            type=click.Choice(["h", "dm"]),
            default="h",
            show_default=True,
            help="Learned Hamiltonians, or those that the engine computes, without "
            "self-consistency, of their density matrices.",
        ),
    ):
        command = option(command)
    return command


def _one_step(
    source: "MatrixSource", path: Path, atoms: "Atoms", config: Path | None, *, trust: bool
) -> AbstractContextManager["MatrixSource"]:
    """Matrices by one step of the engine of a configuration, or of a run."""
    from otf.config import read_config
    from otf.postprocess.electronic.one_step import one_step
    from otf.runs.directory import one_run, read_run
    from otf.runs.trust import check_trusted

    if config is None:
        if not path.is_dir():
            raise click.UsageError(f"--route dm needs --config: {path} is no run with an engine")
        run, known, _ = read_run(one_run(path))
        config = run.config
    else:
        known = read_config(config)
    check_trusted(known, config, trusted=trust)
    return one_step(source, known, atoms)


def _checked(model: Path | None, grid: _Grid) -> Path | None:
    if grid is not None and model is None:
        raise click.UsageError("--kpoints needs --model: a run has the k points of its labels")
    return model


@click.command("gap")
@_by_matrices
def gap(sources: list["MatrixSource"], runs: list["Frames"]) -> "Curves":
    """Gap between occupied and empty levels over time, and its mean.

    For runs whose engine provides its matrices (engine.warm_start: auto or learned), or any
    structures with a model from `otf electrons learn`.
    """
    from otf.postprocess.electronic.levels import gap as analyse

    return analyse(sources, runs)


@click.command("dos")
@positive("--width", "width_eV", 0.1, "Broadening of a level, eV.")
@positive("--below", "below_eV", 20.0, "Range below the highest occupied level, eV.")
@positive("--above", "above_eV", 10.0, "Range above it, eV.")
@_by_matrices
def dos(
    sources: list["MatrixSource"],
    runs: list["Frames"],
    *,
    width_eV: float,
    below_eV: float,
    above_eV: float,
) -> "Curves":
    """Electronic density of states, averaged over the frames; for the same as `gap`."""
    from otf.postprocess.electronic.levels import level_density

    return level_density(sources, runs, width_eV=width_eV, below_eV=below_eV, above_eV=above_eV)


@click.command("bands")
@click.option("--path", "k_path", help="Special points such as GXWG; default: all of the lattice.")
@click.option("--points", type=click.IntRange(min=2), default=60, show_default=True)
@positive("--below", "below_eV", 20.0, "Range below the highest occupied level, eV.")
@positive("--above", "above_eV", 10.0, "Range above it, eV.")
@_by_matrices
def bands(
    sources: list["MatrixSource"],
    runs: list["Frames"],
    *,
    k_path: str | None,
    points: int,
    below_eV: float,
    above_eV: float,
) -> "Curves":
    """Band structure of a crystal, averaged over the frames; for the same as `gap`."""
    from otf.postprocess.electronic.levels import bands as analyse

    return analyse(
        sources, runs, k_path=k_path, points=points, below_eV=below_eV, above_eV=above_eV
    )


@click.command("charges")
@_by_matrices
def charges(sources: list["MatrixSource"], runs: list["Frames"]) -> "Curves":
    """Mulliken charges over time, and their means; for the same runs as `gap`."""
    from otf.postprocess.electronic.levels import charges as analyse

    return analyse(sources, runs)


@click.command("dipole")
@_by_matrices
def dipole(sources: list["MatrixSource"], runs: list["Frames"]) -> "Curves":
    """Dipole moment of a molecule over time, and its mean; for the same runs as `gap`."""
    from otf.postprocess.electronic.densities import dipoles

    return dipoles(sources, runs)


@click.command("density")
@click.option(
    "--volume",
    required=True,
    type=OutputFile(),
    help="A .cube or .h5 file; with several frames, their numbers are added to the name.",
)
@positive("--spacing", "spacing_A", 0.2, "Grid spacing, Angstrom.")
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
@_with_model
def density(
    paths: tuple[Path, ...],
    runs: list["Frames"],
    *,
    volume: Path,
    spacing_A: float,
    route: Literal["dm", "points"] | None,
    files: tuple[Path, ...],
    model: Path | None,
    grid: _Grid,
) -> "Curves":
    """Electron density of every frame on a grid; for the same runs as `gap`.

    A grid does not resolve the steep density near the nuclei; the number of electrons integrated
    on the grid is given to show by how much.
    """
    from otf.postprocess.electronic.densities import densities

    if files and route == "dm":
        raise click.UsageError("--learn needs --route points: a density gives no density matrix")
    if model is not None and (files or route == "points"):
        raise click.UsageError("--model gives density matrices: leave out --learn and --route")
    return densities(
        paths,
        runs,
        spacing_A=spacing_A,
        volume=volume,
        route=route or ("points" if files else "dm"),
        files=files,
        model=_checked(model, grid),
        grid=grid,
    )


@click.command("phonons")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--supercell", nargs=3, type=click.IntRange(min=1), default=(1, 1, 1), show_default=True,
    help="Repetitions of the cell of the run.",
)  # fmt: skip
@positive("--displacement", "displacement_A", 0.01, "Displacement of the atoms, Angstrom.")
@click.option("--mesh", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--by-engine", is_flag=True, help="Compute the phonons of the engine, too.")
@click.option(
    "--by-matrices",
    is_flag=True,
    help="Also those of learned Hamiltonians, by one diagonalisation of the engine for each "
    "displacement (SIESTA).",
)
@trust_option
@click.option(
    "--output",
    multiple=True,
    type=OutputFile(),
    help="A .csv, .txt, .h5, .png, .svg or .pdf file; may be given more than once.",
)
@force_option
def phonons(
    *,
    run_dir: Path,
    supercell: tuple[int, int, int],
    displacement_A: float,
    mesh: int,
    by_engine: bool,
    by_matrices: bool,
    trust: bool,
    output: tuple[Path, ...],
) -> None:
    """Phonons of a run's model at its energy minimum, by finite displacements."""
    from otf.postprocess.phonons import phonons as analyse

    if by_engine or by_matrices:
        require_trust(run_dir, trusted=trust)
    found = analyse(
        run_dir,
        supercell=supercell,
        displacement_A=displacement_A,
        mesh=mesh,
        by_engine=by_engine,
        by_matrices=by_matrices,
    )
    show_or_write(found, output)


COMMANDS = (gap, dos, bands, charges, dipole, density, phonons)

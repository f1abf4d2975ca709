"""``otf neb``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from otf.cli.output_file import OutputFile, force_option
from otf.cli.run_options import engine_options

if TYPE_CHECKING:
    from otf.runs.starting_point import RunOptions


# Half of the largest force on an image is the smaller limit for its errors until this is reached.
_TARGET_MEV_A = 250.0


@click.command("neb")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("last", type=click.Path(path_type=Path))
@click.option("--images", type=click.IntRange(min=1), default=5, show_default=True,
              help="Structures between the minima.")  # fmt: skip
@click.option("--fmax", "fmax_eV_A", type=float, default=0.05, show_default=True,
              help="Largest force across the path at the end, eV/Angstrom.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--directory", type=click.Path(path_type=Path),
              help="Folder of the labels; default: runs/<SOURCE>-neb.")  # fmt: skip
@click.option("--output", type=OutputFile(), help="File for the path; default: in the folder.")
@force_option
@engine_options
def command(
    *,
    source: Path,
    last: Path,
    options: "RunOptions",
    images: int,
    fmax_eV_A: float,
    steps: int,
    directory: Path | None,
    output: Path | None,
) -> None:
    """Find the barrier between two minima on a model that learns from the engine where it must.

    SOURCE is the first structure, an input file or a configuration that has it, LAST the file of
    the other one, with the same atoms in the same order. Both are relaxed first; the path is a
    climbing nudged elastic band. The energies of the barrier are the engine's;
    path.png in the folder shows the path.
    """
    from ase.io import write

    from otf.analysis.picture import draw
    from otf.postprocess.optimise import find_path, relax
    from otf.runs.learning_calculator import learning
    from otf.runs.starting_point import configuration_of
    from otf.runs.structure import counterpart, make_structure

    config = configuration_of(source, options)
    first = make_structure(config, source.parent)
    second = counterpart(config, first, last, where="LAST")
    directory = directory or Path("runs") / f"{source.stem}-neb"
    with learning(config, directory, target_meV_A=_TARGET_MEV_A) as calculator:
        for name, atoms in (("first", first), ("last", second)):
            for step in relax(atoms, calculator, fmax_eV_A=fmax_eV_A, steps=steps):
                end = step
            click.echo(f"{name} minimum: {end.energy_eV:.6f} eV, {end.labels} labels so far")
        path = find_path(first, second, calculator, images=images, fmax_eV_A=fmax_eV_A, steps=steps)
        labels, answers = calculator.n_labels, calculator.answers
        output = output or directory / "path.extxyz"
        write(output, list(path.images))
    draw(path.curves(), directory / "path.png")
    click.echo(f"barrier {path.barrier_eV:.4f} eV")
    click.echo(f"{labels} labels, {answers} answers of the model; wrote {output}")

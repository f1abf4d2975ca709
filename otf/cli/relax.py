"""``otf relax``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from otf.cli.output_file import OutputFile, force_option
from otf.cli.run_options import engine_options

if TYPE_CHECKING:
    from otf.runs.starting_point import RunOptions


@click.command("relax")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--fmax", "fmax_eV_A", type=float, default=0.02, show_default=True,
              help="Largest force on an atom at the end, by the engine, eV/Angstrom.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--cell", is_flag=True, help="Relax the cell, too.")
@click.option("--directory", type=click.Path(path_type=Path),
              help="Folder of the labels; default: runs/<SOURCE>-relax.")  # fmt: skip
@click.option("--output", type=OutputFile(), help="File for the structure; default: in the folder.")
@force_option
@engine_options
def command(
    *,
    source: Path,
    options: "RunOptions",
    fmax_eV_A: float,
    steps: int,
    cell: bool,
    directory: Path | None,
    output: Path | None,
) -> None:
    """Relax a structure on a model that learns from the engine where it must.

    SOURCE is a structure, an input file of an engine, or a configuration. The engine confirms the
    end. Labels are kept in the folder, and used again; relax.png there shows the energy.
    """
    from otf.analysis.picture import draw
    from otf.postprocess.optimise import progress_curves, relax
    from otf.runs.learning_calculator import learning
    from otf.runs.starting_point import configuration_of
    from otf.runs.structure import make_structure

    config = configuration_of(source, options)
    atoms = make_structure(config, source.parent)
    directory = directory or Path("runs") / f"{source.stem}-relax"
    course = []
    with learning(config, directory) as calculator:
        for step in relax(atoms, calculator, fmax_eV_A=fmax_eV_A, steps=steps, cell=cell):
            course.append(step)
            by = "engine" if step.by_engine else "model"
            numbers = f"{step.energy_eV:16.6f} eV  {step.force_eV_A:9.4f} eV/A"
            click.echo(f"{len(course):4d}  {numbers}  {by:6}  {step.labels} labels")
        answers = calculator.answers
        output = output or directory / "relaxed.extxyz"
        atoms.write(output)
    draw(progress_curves(course), directory / "relax.png")
    click.echo(f"{course[-1].labels} labels, {answers} answers of the model; wrote {output}")

"""``otf electrons``: models of Hamiltonians as files."""

from pathlib import Path

import click

from otf.cli.output_file import OutputFile, force_option


@click.group("electrons")
def command() -> None:
    """Learn Hamiltonians for `otf analyse gap`, `dos`, `bands`, `charges` and `density`."""


@command.command("learn")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--output", required=True, type=OutputFile(), help="The file of the model (.h5).")
@force_option
def learn(*, paths: tuple[Path, ...], output: Path) -> None:
    """Learn the matrices of runs or of folders of SIESTA, OpenMX or PySCF calculations.

    Structures may differ in size and composition; the basis must be the same. A fifth of them is
    left out to calibrate the expected errors, then learned, too.
    """
    from otf.postprocess.electronic.learn import learn as learn_matrices
    from otf.postprocess.electronic.model_file import write_model

    model = learn_matrices(paths)
    write_model(output, model)
    learned = model.ensemble.mean
    click.echo(f"learned {learned.n_labels} structures")
    click.echo(f"Hamiltonian, left out: {model.left_out_meV:.2f} meV root mean square")
    if model.shortest_A is not None:
        click.echo(
            f"the shortest cell measures {model.shortest_A:.2f} A: in it atoms see their own "
            "images, which move with them. Left-out errors do not hold for larger cells; the "
            "expected errors that `otf analyse --model` prints do"
        )
    click.echo(f"written: {output}; use it with: otf analyse gap --model {output} STRUCTURES")

"""``otf electrons``: models of Hamiltonians as files."""

from pathlib import Path

import click

from otf.cli.output_file import OutputFile, force_option
from otf.cli.trust import require_trust, trust_option


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
            "images, which move with them. Left-out errors do not hold for larger cells; "
            "`otf analyse --model` prints the errors expected there"
        )
    click.echo(f"written: {output}; use it with: otf analyse gap --model {output} STRUCTURES")


@command.command("fetch")
@click.argument("run_dir", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--count", type=click.IntRange(min=1), help="Number of labels, spread over the run.  [all]"
)
@trust_option
def fetch(*, run_dir: Path, count: int | None, trust: bool) -> None:
    """Compute the labels of a run again, to have their matrices.

    For runs that were made without engine.warm_start: auto or engine.keep_matrices. Labels that
    have their matrices are left out.
    """
    from otf.postprocess.electronic.fetch import Fetch

    require_trust(run_dir, trusted=trust)
    fetching = Fetch(run_dir, count=count)
    for number, label in enumerate(fetching.labels(), start=1):
        click.echo(f"{number} of {len(fetching)}: label {label.index} at step {label.step}")
    click.echo(f"learn them: otf electrons learn {run_dir} --output h.h5")

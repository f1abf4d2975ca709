"""``otf serve``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from otf.cli.run_options import address_options, engine_options

if TYPE_CHECKING:
    from otf.postprocess.serve import Address
    from otf.runs.starting_point import RunOptions


@click.command("serve")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--learn",
    is_flag=True,
    help="Learn from the engine where the model does not suffice.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="With --learn: folder of the labels; default: runs/<SOURCE>-serve.",
)
@click.option(
    "--check-every",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="With --learn: answers of the model per random check by the engine, on average; 0: none.",
)
@click.option(
    "--structure",
    type=click.Path(path_type=Path),
    help="File with the atoms in the order of the driver; default: that of the run directory.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0.0),
    default=60.0,
    show_default=True,
    help="Seconds to wait until the driver listens.",
)
@address_options
@engine_options
def command(
    *,
    source: Path,
    options: "RunOptions",
    learn: bool,
    directory: Path | None,
    check_every: int,
    structure: Path | None,
    address: "Address",
    wait_s: float,
) -> None:
    """Serve a learned model to i-PI, ASE or others, by the i-PI socket protocol.

    SOURCE is a run directory or a model file. With --learn it is a structure, an input file of an
    engine, or a configuration: the engine is asked where the model does not suffice, and the model
    learns from its labels. They are kept in the folder, and used again.
    """
    from otf.postprocess.serve import serve, serve_model
    from otf.postprocess.stored_model import stored_model
    from otf.runs.learning_calculator import learning
    from otf.runs.starting_point import RunOptions, configuration_of
    from otf.runs.structure import make_structure

    if not learn:
        if directory is not None or options != RunOptions():
            raise click.UsageError("options of the engine and --directory need --learn")
        answered = serve_model(*stored_model(source, structure), address, wait_s=wait_s)
        click.echo(f"{answered} structures computed")
        return
    if structure is not None:
        raise click.UsageError("--structure is that of a model; with --learn, SOURCE has the atoms")
    config = configuration_of(source, options)
    atoms = make_structure(config, source.parent)
    directory = directory or Path("runs") / f"{source.stem}-serve"
    with learning(config, directory, check_every=check_every) as calculator:
        answered = serve(calculator, atoms, address, wait_s=wait_s)
        click.echo(f"{answered} structures computed, {calculator.answers} of them by the model")
        click.echo(f"{calculator.n_labels} labels in {directory}")
        errors = calculator.checked_errors
        if errors:
            mean = 1e3 * sum(errors) / len(errors)
            click.echo(f"force MAE {mean:.1f} meV/A at {len(errors)} answers checked at random")

"""``otf fit``."""

from dataclasses import asdict
from pathlib import Path

import click

from otf.cli.json_text import to_json
from otf.cli.output_file import OutputFile, force_option
from otf.cli.recorded import keys_option, read_keys


@click.command("fit")
@click.argument("train", type=click.Path(path_type=Path))
@click.option("--test", type=click.Path(path_type=Path), help="Structures to test on.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Configuration whose model section is used."
)
@click.option("--output", type=OutputFile(), help="File to write the model to (model.h5).")
@force_option
@keys_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    *,
    train: Path,
    test: Path | None,
    config: Path | None,
    output: Path | None,
    keys: str | None,
    as_json: bool,
) -> None:
    """Fit a model to labelled structures and test it.

    TRAIN and --test are files that ASE reads, with energy and forces in every frame.
    """
    from otf.config.reader import read_learning
    from otf.config.schema import Learning
    from otf.learning.model_file import write_model
    from otf.postprocess.fit import fit

    model = (read_learning(config) if config else Learning()).model
    report = fit(train, test, model, keys=read_keys(keys))
    if output is not None:
        write_model(output, report.trainer.force_model)
    choice = report.trainer.choice
    if as_json:
        numbers = {
            "model": str(report.trainer.size),
            "train": asdict(report.train),
            "order": choice.order,
            "lambda": choice.strength,
        }
        numbers["test"] = None if report.test is None else asdict(report.test)
        click.echo(to_json(numbers))
        return
    click.echo(f"{report.trainer.size}, order {choice.order}, lambda {choice.strength:.1e}")
    for name, errors in (("train", report.train), ("test", report.test)):
        if errors is not None:
            click.echo(
                f"{name:<6}{errors.frames} frames: force MAE {1e3 * errors.force_mae:.2f} meV/A "
                f"(RMSE {1e3 * errors.force_rmse:.2f}), energy MAE "
                f"{1e3 * errors.energy_mae:.3f} meV/atom (RMSE {1e3 * errors.energy_rmse:.3f})"
            )
    if output is not None:
        click.echo(f"wrote {output}; from Python: otf.load_model('{output}')")

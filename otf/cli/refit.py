"""``otf refit``."""

from pathlib import Path

import click

from otf.cli.json_text import to_json
from otf.cli.output_file import OutputFile, force_option
from otf.cli.trust import require_trust, trust_option


@click.command("refit")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--output", type=OutputFile(), help="File to write the model to; default: RUN_DIR/refit.h5."
)
@force_option
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(*, run_dir: Path, output: Path | None, trust: bool, as_json: bool) -> None:
    """Fit a model anew to all labels of a run, for production.

    Size, ranges and prior are chosen by all labels at once, with those of audits, replicas and
    earlier runs. The run itself is not changed.
    """
    from otf.learning.learning_curve import error_with_twice
    from otf.learning.model_file import write_model
    from otf.postprocess.refit import refit
    from otf.units import MEV

    require_trust(run_dir, trusted=trust)
    output = output or run_dir / "refit.h5"
    found = refit(run_dir)
    write_model(output, found.trainer.force_model)
    twice = error_with_twice(found.curve)
    if as_json:
        numbers = {
            "labels": found.own,
            "earlier_labels": found.earlier,
            "model": str(found.trainer.size),
            "order": found.trainer.choice.order,
            "learning_curve_meV_A": {p.labels: p.error / MEV for p in found.curve},
            "with_twice_the_labels_meV_A": None if twice is None else twice / MEV,
            "output": str(output),
        }
        click.echo(to_json(numbers))
        return
    earlier = f" and {found.earlier} of earlier runs" if found.earlier else ""
    click.echo(f"labels      {found.own}{earlier}")
    click.echo(f"model       {found.trainer.size}, order {found.trainer.choice.order}")
    if not found.curve:
        click.echo("left out    not known: too few labels that are apart in time")
    for point in found.curve:
        error = point.error / MEV
        click.echo(
            f"left out    force MAE {error:.2f} meV/A with {point.labels} labels, at stretches of "
            "the trajectory"
        )
    if twice is not None:
        click.echo(f"            about {twice / MEV:.2f} meV/A with twice the labels")
    click.echo(f"wrote {output}; from Python: otf.load_model('{output}')")

"""``otf serve``."""

from pathlib import Path

import click


@click.command("serve")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--structure",
    type=click.Path(path_type=Path),
    help="File with the atoms in the order of the driver; default: that of the run directory.",
)
@click.option("--host", default="localhost", show_default=True, help="Host of the driver.")
@click.option("--port", type=click.IntRange(1, 65535), default=31415, show_default=True)
@click.option("--unix", help="Name of the driver's unix socket, in place of host and port.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0.0),
    default=60.0,
    show_default=True,
    help="Seconds to wait until the driver listens.",
)
def command(
    *, model: Path, structure: Path | None, host: str, port: int, unix: str | None, wait_s: float
) -> None:
    """Serve a learned model to i-PI, ASE or others, by the i-PI socket protocol.

    MODEL is a run directory or a model file.
    """
    from otf.postprocess.serve import Address, serve
    from otf.postprocess.stored_model import stored_model

    answered = serve(*stored_model(model, structure), Address(host, port, unix), wait_s=wait_s)
    click.echo(f"{answered} structures computed")

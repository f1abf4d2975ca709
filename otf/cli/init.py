"""``otf init``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from otf.cli.run_options import run_options

if TYPE_CHECKING:
    from otf.runs.starting_point import RunOptions


@click.command("init")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), help="File to write; default: <SOURCE>.yaml here."
)
@run_options
def command(*, source: Path, output: Path | None, options: "RunOptions") -> None:
    """Write a commented configuration for a structure or for the input file of an engine.

    SOURCE is any structure that ASE reads, or an input file of OpenMX, SIESTA, pw.x or CP2K. If
    there is no such file, it is the name of an example with methane.
    """
    from otf.errors import FileError
    from otf.runs.starting_point import example, starter_of

    if source.is_file():
        path = output or Path(f"{source.stem}.yaml")
        text = str(starter_of(source, options, folder=path.parent))
    elif source.suffix in ("", ".yaml", ".yml"):
        path = output or source.with_suffix(".yaml")
        text = str(example(options))
    else:
        raise FileError(f"{source}: there is no such file; a name without ending is an example")
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise FileError(f"{path}: already exists; choose another name or remove it") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror})") from error
    click.echo(f"wrote {path}; now: otf run {path}, or first: otf doctor {path} --try")

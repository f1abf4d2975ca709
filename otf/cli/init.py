"""``otf init``."""

from pathlib import Path

import click


@click.command("init")
@click.argument("name", type=click.Path(path_type=Path))
def command(name: Path) -> None:
    """Write a commented example configuration to NAME.yaml."""
    from otf.config.template import TEMPLATE
    from otf.errors import FileError

    path = name if name.suffix in (".yaml", ".yml") else name.with_name(name.name + ".yaml")
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(TEMPLATE)
    except FileExistsError:
        raise FileError(f"{path}: already exists; choose another name or remove it") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror})") from error
    click.echo(f"wrote {path}; now: otf run {path}")

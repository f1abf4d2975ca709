"""Options of the commands that learn from recorded structures, and their progress."""

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from otf.learning.fit import Keys

keys_option = click.option(
    "--keys",
    metavar="ENERGY,FORCES",
    help="Names of energy and forces in the file, such as REF_energy,REF_forces.",
)


def read_keys(text: str | None) -> "Keys | None":
    """The names in ``ENERGY,FORCES``; None for the usual ones."""
    from otf.learning.fit import Keys

    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise click.BadParameter(f"expected ENERGY,FORCES, found {text!r}", param_hint="--keys")
    return Keys(*names)


def show_progress(text: str) -> None:
    """Show a line on a terminal in place of the one before."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{text}", err=True, nl=False)

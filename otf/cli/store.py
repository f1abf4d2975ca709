"""``otf store``."""

from pathlib import Path

import click

store_option = click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Folder of the store; default: $OTF_STORE, or otf/labels in your data folder.",
)


@click.group("store")
def command() -> None:
    """Keep labels for later runs, which start with them: `learn_from: store`."""


@command.command("add")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@store_option
def add(runs: tuple[Path, ...], store: Path | None) -> None:
    """Add the labels of RUNS, with those of their audits, that are not in the store yet."""
    from otf.config.learn_from import default_store
    from otf.runs.label_store import add_run

    store = store or default_store()
    for run in runs:
        click.echo(f"{run}: {add_run(run, store)} labels added to {store}")


@command.command("list")
@store_option
def show(store: Path | None) -> None:
    """List the sets of labels in the store, one per line."""
    from otf.config.learn_from import default_store
    from otf.runs.label_store import stored_sets

    store = store or default_store()
    sets = stored_sets(store)
    if not sets:
        click.echo(f"{store}: holds no labels; `otf store add RUN` adds those of a run")
        return
    click.echo(
        f"{'settings':<17} {'engine':<8} {'labels':>6} {'atoms':>6} {'K':>6}  elements      from"
    )
    for _, row in sets:
        elements = " ".join(row.elements)
        click.echo(
            f"{row.digest:<17} {row.engine:<8} {row.labels:>6} {row.largest:>6} "
            f"{row.temperature_K:>6g}  {elements:<12}  {row.of}"
        )

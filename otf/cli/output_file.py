"""Files that commands write: overwritten only with ``--force``, those of a run never."""

from pathlib import Path
from typing import Any

import click

_FORCE = "otf.force"


class OutputFile(click.Path):
    """A file to write; refused if that would destroy something."""

    name = "path"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, if it may be written."""
        path = super().convert(value, param, ctx)
        assert isinstance(path, Path)
        if _belongs_to_run(path):
            self.fail(f"{path} is a file of the run {path.parent}; choose another name", param, ctx)
        if path.exists() and not (ctx is not None and ctx.meta.get(_FORCE)):
            self.fail(f"{path} exists; choose another name, or add --force", param, ctx)
        return path


def _belongs_to_run(path: Path) -> bool:
    folder = path.absolute().parent
    if not (folder / "config.resolved.yaml").exists():
        return False
    from otf.runs.directory import RunDirectory

    run = RunDirectory(folder)
    return folder / path.name in run.own_files


def _remember(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta[_FORCE] = value


force_option = click.option(
    "--force",
    is_flag=True,
    is_eager=True,  # known when the other options are checked
    expose_value=False,
    callback=_remember,
    help="Overwrite files that exist; those of a run are never overwritten.",
)
"""The option ``--force`` of commands with an :class:`OutputFile`."""

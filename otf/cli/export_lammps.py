"""``otf export-lammps``."""

from pathlib import Path

import click


@click.command("export-lammps")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--structure",
    type=click.Path(path_type=Path),
    help="Initial structure; default: that of the run.",
)
@click.option(
    "--plugin",
    is_flag=True,
    help="Also write the model as a pair style in C++, and compile it where LAMMPS and a compiler "
    "are installed.",
)
def command(model: Path, folder: Path, structure: Path | None, plugin: bool) -> None:
    """Write a folder for LAMMPS with a learned model, for any number of MPI ranks.

    MODEL is a run directory or a model file.
    """
    from otf.lammps.export import export
    from otf.lammps.plugin import BY_HAND, compile_plugin
    from otf.postprocess.stored_model import stored_model
    from otf.runs.directory import RunDirectory

    source = RunDirectory(model).model if model.is_dir() else model
    what, atoms = stored_model(model, structure)
    export(what, source, atoms, folder, plugin=plugin)
    if atoms.constraints:
        click.echo(
            "note: the constraints of the run are not exported; add `fix setforce` to the script",
            err=True,
        )
    if plugin and (failure := compile_plugin(folder)):
        click.echo(f"note: the plugin was not compiled: {failure}\n{BY_HAND}", err=True)
    elif plugin:
        click.echo(f"{folder}: mpirun -n 4 lmp -in in.lammps")
        return
    click.echo(f"{folder}: mpirun -n 4 python run.py")

"""Handing runs in, and calling them off."""

from pathlib import Path

from otf.config import Config, read_config
from otf.errors import ClusterError
from otf.io.durable import replace_file
from otf.runs.directory import create_run, open_run
from otf.runs.session import default_directory
from otf.runs.stopping import EXIT_FILE
from otf.slurm import commands
from otf.slurm.script import batch_script, check, check_ranks, script_of


def planned_script(source: Path, output: Path | None) -> str:
    """The script :func:`submitted` would hand in.

    Raises
    ------
    ConfigError, FileError, ClusterError
        As there.
    """
    if source.is_dir():
        _, config, _ = open_run(source)
        run = source
    else:
        config = read_config(source)
        run = output or default_directory(config, source)
    _check_engine(config)
    return batch_script(config.cluster, run)


def submitted(source: Path, output: Path | None) -> tuple[str, Path]:
    """Hand a run in; the number of its job, and its directory.

    Parameters
    ----------
    source
        A configuration, for which a run directory is made; or a run directory.
    output
        Where the run directory of a configuration is to be.

    Raises
    ------
    ClusterError
        If Slurm does not take it; a new run directory stays, and can be submitted.
    ConfigError, FileError, EngineError
        If there is nothing to hand in.
    """
    if source.is_dir():
        run, config, _ = open_run(source)
        _refuse_twice(run.path)
    else:
        config = read_config(source)
        _refuse_twice(output or default_directory(config, source))
    check(config.cluster, commands.partitions())
    _check_engine(config)
    where = source if source.is_dir() else output or default_directory(config, source)
    text = batch_script(config.cluster, where)
    if not source.is_dir():
        run = create_run(config, source, output or default_directory(config, source))
    script = script_of(run.path)
    replace_file(script, lambda aside: aside.write_text(text, encoding="utf-8"))
    try:
        return commands.submit(script), run.path
    except ClusterError as error:
        raise ClusterError(
            f"{error}\nchange the cluster section in {run.config}, then `otf submit {run.path}`"
        ) from error


def cancelled(path: Path, *, now: bool) -> list[str]:
    """Stop the jobs of a run; what was done, in words.

    Raises
    ------
    ClusterError
        If it has none.
    """
    jobs = [job for job in commands.my_jobs() if job.run == path.resolve()]
    if not jobs:
        raise ClusterError(f"{path}: has no job in the queue; `otf queue` lists those that have")
    told = []
    for job in jobs:
        if job.state == "RUNNING" and not now:
            if open_run(path)[1].cluster.model_ranks > 1:  # mpirun would end it at a signal
                (path / EXIT_FILE).touch()
            else:
                commands.ask_to_stop(job.number)
            told.append(f"job {job.number} stops at its next safe point")
        else:
            commands.cancel(job.number)
            told.append(f"job {job.number} is cancelled")
    return [*told, f"`otf submit {path}` goes on with the run"]


def _refuse_twice(path: Path) -> None:
    for job in commands.my_jobs():
        if job.run == path.resolve():
            raise ClusterError(
                f"{path}: is in the queue already (job {job.number}, {job.state.lower()})"
            )


def _check_engine(config: Config) -> None:
    options = config.engine.options
    if isinstance(options.get("ranks"), int):
        check_ranks(config.cluster, options["ranks"], options.get("threads", 1))

"""Submission and cancellation of runs."""

from pathlib import Path

from otf.config import Config, read_config
from otf.errors import ClusterError
from otf.io.durable import replace_file
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.session import default_directory
from otf.runs.stopping import EXIT_FILE
from otf.slurm import commands
from otf.slurm.script import batch_script, check, check_ranks, script_of


def planned_script(source: Path, output: Path | None) -> str:
    """Batch script that :func:`submitted` would submit.

    Raises
    ------
    ConfigError, FileError, ClusterError
        As :func:`submitted`.
    """
    if source.is_dir():
        _, config, _ = read_run(source)
        run = source
    else:
        config = read_config(source)
        run = output or default_directory(config, source)
    _check_engine(config)
    return batch_script(config.cluster, run)


def submitted(source: Path, output: Path | None) -> tuple[str, Path]:
    """Submit a run and return the number of its job and its directory.

    Parameters
    ----------
    source
        A configuration, for which a run directory is created; or a run directory.
    output
        Run directory for a configuration.

    Raises
    ------
    ClusterError
        If Slurm rejects it; a new run directory is kept, and can be submitted.
    ConfigError, FileError, EngineError
        If the configuration or the run directory cannot be used.
    """
    if source.is_dir():
        run, config, _ = read_run(source)
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
    """Stop the jobs of a run and return messages about what was done.

    Raises
    ------
    ClusterError
        If it has no job.
    """
    jobs = [job for job in commands.my_jobs() if job.run == path.resolve()]
    if not jobs:
        raise ClusterError(f"{path}: has no job in the queue; `otf queue` lists the runs with one")
    messages = []
    for job in jobs:
        if job.state == "RUNNING" and not now:
            if read_run(path)[1].cluster.model_ranks > 1:  # a signal would make mpirun end it
                (path / EXIT_FILE).touch()
            else:
                commands.ask_to_stop(job.number)
            messages.append(f"job {job.number} stops at its next safe point")
        else:
            commands.cancel(job.number)
            messages.append(f"job {job.number} is cancelled")
    return [*messages, f"`otf submit {path}` continues the run"]


def _refuse_twice(path: Path) -> None:
    for job in commands.my_jobs():
        if job.run == path.resolve():
            raise ClusterError(
                f"{path}: is already in the queue (job {job.number}, {job.state.lower()})"
            )


def _check_engine(config: Config) -> None:
    options = config.engine.options
    if isinstance(options.get("ranks"), int):
        check_ranks(
            config.cluster,
            options["ranks"],
            options.get("threads", 1),
            at_once=config.policy.labels_at_once,
        )

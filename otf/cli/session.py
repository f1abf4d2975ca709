"""Sessions of ``otf run`` and ``otf resume``: run to the end and print the summary."""

import signal
from dataclasses import asdict
from pathlib import Path

import click

from otf.cli.json_text import to_json
from otf.cli.progress import progress, replicas_progress, warnings_shown
from otf.cli.summary_text import describe, describe_replicas
from otf.errors import ClusterError, RunError
from otf.model.tensor_energy import Ranks
from otf.runs.directory import one_run, read_run, replicas_below
from otf.runs.replicas import ReplicasSummary, run_replicas
from otf.runs.session import run_session
from otf.runs.stopping import DONE, TIME_IS_OVER
from otf.runs.summary import Summary
from otf.slurm.job import Again, going_on

NOT_FINISHED = 75
"""Exit code (EX_TEMPFAIL) of a session that ended before its run; `otf resume` continues it."""


def run_to_end(path: Path, *, as_json: bool, again: Again | None, ranks: Ranks | None) -> None:
    """Run until the end or a signal, and print the summary.

    Parameters
    ----------
    again
        How the run continues at the time limit of its job.
    ranks
        MPI ranks that share the evaluation of the model.
    """
    if again is not None:  # before and after the run, which has its own handler
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with going_on(path, again) as continuation, warnings_shown():
        count = read_run(path)[1].replicas.count
        run_through = _run if count == 1 else _run_replicas
        summary = run_through(path, as_json=as_json, ranks=ranks)
        if continuation is not None and summary.stopped_by in TIME_IS_OVER:
            try:
                click.echo(continuation.go_on(), err=True)
            except ClusterError as error:
                click.echo(f"no job follows: {error}; `otf submit {path}` continues it", err=True)
    if summary.stopped_by is None or summary.stopped_by in DONE:
        return
    # So that a job script can distinguish stopped from finished.
    by_signal = signal.Signals.__members__.get(summary.stopped_by)
    raise SystemExit(NOT_FINISHED if by_signal is None else 128 + by_signal)


def _run(path: Path, *, as_json: bool, ranks: Ranks | None) -> Summary:
    run, config, atoms = read_run(one_run(path))
    if path.resolve() in replicas_below(path.resolve().parent):
        raise RunError(
            f"{path}: is one of several replicas; `otf resume {path.parent}` continues them all"
        )
    with progress(config.dynamics.total_steps, config.dynamics.timestep_fs) as watch:
        summary = run_session(run, config, atoms, watch, ranks=ranks)
    by_signal = signal.Signals.__members__.get(summary.stopped_by or "")
    page = _report(path) if by_signal is None and summary.steps else None
    if as_json:
        click.echo(to_json(asdict(summary)))
    else:
        click.echo(describe(summary))
        if page is not None:
            click.echo(f"look at it  {page}")
    return summary


def _run_replicas(path: Path, *, as_json: bool, ranks: Ranks | None) -> ReplicasSummary:
    run, config, _ = read_run(path)
    with replicas_progress(config.replicas.count) as watch:
        summary = run_replicas(run, config, watch, ranks=ranks)
    by_signal = signal.Signals.__members__.get(summary.stopped_by or "")
    page = _report(path) if by_signal is None else None
    if as_json:
        click.echo(to_json(asdict(summary)))
    else:
        click.echo(describe_replicas(summary))
        if page is not None:
            click.echo(f"look at it  {page}")
    return summary


def _report(path: Path) -> Path | None:
    """Write ``report.html``; an error in the report does not make the run fail."""
    from otf.report.page import write_report
    from otf.report.replicas import write_replicas_report

    try:
        return write_replicas_report(path) if replicas_below(path) else write_report(path)
    except Exception as error:
        click.echo(f"no report ({error}); once this is fixed: otf report {path}", err=True)
        return None

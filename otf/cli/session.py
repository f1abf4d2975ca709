"""Sessions of ``otf run`` and ``otf resume``: run to the end and print the summary."""

import math
import signal
from dataclasses import asdict
from pathlib import Path

import click

from otf.cli.json_text import to_json
from otf.cli.progress import progress, replicas_progress
from otf.errors import ClusterError, RunError
from otf.model.tensor_energy import Ranks
from otf.runs.directory import one_run, open_run, replicas_below
from otf.runs.replicas import ReplicasSummary, run_replicas
from otf.runs.session import Summary, run_session
from otf.runs.stopping import DONE, TIME_IS_OVER
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
    with going_on(path, again) as continuation:
        count = open_run(path)[1].replicas.count
        sit_through = _run if count == 1 else _run_replicas
        summary = sit_through(path, as_json=as_json, ranks=ranks)
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
    run, config, atoms = open_run(one_run(path))
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
    run, config, _ = open_run(path)
    with replicas_progress(config.replicas.count) as watch:
        summary = run_replicas(run, config, watch, ranks=ranks)
    by_signal = signal.Signals.__members__.get(summary.stopped_by or "")
    if by_signal is None:
        for replica in summary.replicas:
            _report(Path(replica.directory))
    if as_json:
        click.echo(to_json(asdict(summary)))
    else:
        click.echo(describe_replicas(summary))
    return summary


def describe_replicas(s: ReplicasSummary) -> str:
    """Summary of several replicas as text."""
    lines = [
        f"{len(s.replicas)} replicas, {s.steps} steps in all, {s.labels} labels "
        f"({1e2 * s.labels / max(1, s.steps):.2f} %) in {s.directory}"
    ]
    for w in s.replicas:
        error = "-" if w.measured is None else f"{w.measured.force_mae_meV_A:.2f} meV/A"
        line = (
            f"{Path(w.directory).name:<11} {w.steps} of {w.steps_wanted} steps, {w.labels} labels"
        )
        lines.append(f"{line}, force MAE {error}")
    if s.measured is not None:
        lines.append(
            f"error       force MAE {s.measured.force_mae_meV_A:.2f} meV/A at "
            f"{s.measured.labels} untriggered labels"
        )
    lines.append(f"time        {s.session_wall_s:.1f} s here")
    if s.stopped_by is not None:
        lines.append(f"stopped by {s.stopped_by}; `otf resume {s.directory}` continues it")
    else:
        lines.append(f"look at it  otf analyse rdf {s.directory}/replica-*")
    return "\n".join(lines)


def _report(path: Path) -> Path | None:
    """Write ``report.html``; an error in the report does not make the run fail."""
    from otf.report.page import write_report

    try:
        return write_report(path)
    except Exception as error:
        click.echo(f"no report ({error}); once this is fixed: otf report {path}", err=True)
        return None


def describe(s: Summary) -> str:
    """Summary of a session as text."""
    unit = "steps" if s.sampling is None else "proposals"
    lines = [
        f"{s.steps} of {s.steps_wanted} {unit} ({s.simulated_fs / 1000:.3g} ps) in {s.directory}",
        f"labels      {s.labels} by {s.engine} ({s.level}), {s.labels_percent:.2f} % of the steps",
    ]
    if s.measured is None:
        lines.append("error       not measured yet: no untriggered label so far")
    else:
        m = s.measured
        lines += [
            f"error       force MAE {m.force_mae_meV_A:.2f} meV/A, 95th percentile "
            f"{m.force_p95_meV_A:.2f} meV/A, energy "
            + (
                "none (self coupling),"
                if math.isnan(m.energy_mae_meV_atom)
                else f"{m.energy_mae_meV_atom:.3f} meV/atom,"
            ),
            f"{'':12}measured before learning, at the {m.labels} untriggered labels",
        ]
        lines += [
            f"{'':12}{kind:<10}{k.labels:>4} labels, force MAE {k.force_mae_meV_A:.2f} meV/A, "
            f"{k.coverage_percent:.0f} % within two predicted errors"
            for kind, k in s.by_kind.items()
        ]
    if s.sampling is not None:
        found = s.sampling
        rate = f"{found.accepted_percent:.0f} % of {found.proposals} proposals accepted"
        lines.append(
            f"sampling    {rate}, {found.mean_steps:.1f} steps each; burn-in {found.burn_in}"
            if found.proposals
            else f"sampling    {found.burn_in} proposals of burn-in, nothing sampled yet"
        )
    if s.contract is not None:
        lines.append(f"contract    {s.contract.in_words()}")
    lines.append(f"model       {s.model}")
    if s.scf_first is not None and s.scf_later is not None:
        lines.append(
            f"SCF         {s.scf_first} cycles for the first label, from scratch, and "
            f"{s.scf_later:.1f} for the others"
        )
        lines += [f"{'':12}{line}" for line in (s.gains.in_words() if s.gains else [])]
    if s.force_checks.asked:
        lines.append(
            f"force check {s.force_checks.asked} non-SCF checks where the guard fired, "
            f"{s.force_checks.spared} of them avoided a label"
        )
    if s.energy_conservation is not None:
        b = s.energy_conservation
        lines.append(
            f"energy      conserved to {b.conserved_meV_ps:+.3f} meV/ps (scatter "
            f"{b.conserved_scatter_meV:.3f} meV); at the engine's labels it changed by "
            f"{b.total_change_meV:+.2f} meV"
        )
        lines.append(
            f"{'':12}discontinuities at model updates {b.discontinuity_meV:+.2f}, "
            f"heat {b.heat_meV:+.1f}, barostat {b.barostat_meV:+.1f}, "
            f"work of the residual {b.work_meV:+.1f} meV"
        )
    saved = s.engine_alone_s - s.session_wall_s
    lines.append(
        f"time        {s.session_wall_s:.1f} s here; the engine alone, at "
        f"{s.label_wall_s / max(1, s.labels):.3g} s a label, {s.engine_alone_s:.1f} s"
        + (f" ({saved:.1f} s saved)" if saved > 0 else " (nothing saved: the engine is this cheap)")
    )
    if s.stopped_by in DONE:
        lines.append(f"ended with {s.stopped_by}; otf audit {s.directory} --every 20")
    elif s.stopped_by is not None:
        lines.append(f"stopped by {s.stopped_by}; `otf resume {s.directory}` continues it")
    elif s.sampling is None:
        lines.append(f"check it    otf audit {s.directory} --every 20")
    return "\n".join(lines)

"""One session of a run: from a run directory to committed files, however it ends."""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from otf.config import Config
from otf.config.schema import Stop
from otf.driver.hybrid_monte_carlo import sample
from otf.driver.loop import drive
from otf.driver.records import ForceChecks, LabelRecord, Parts, Record, RunState, Segment
from otf.driver.statistics import (
    Contract,
    EnergyConservation,
    LabelStatistics,
    Sampling,
    by_kind,
    contract,
    energy_conservation,
    sampling,
    statistics,
)
from otf.engines.allocation import this_job
from otf.engines.protocol import Engine
from otf.io.durable import sole_owner
from otf.io.labels import LabelFile
from otf.io.runlog import run_log
from otf.io.trajectory import TrajectoryWriter, read_scalars, read_trajectory
from otf.learning.model_file import write_model
from otf.model.tensor_energy import Ranks
from otf.runs.assemble import make_engine, make_parts
from otf.runs.check import check
from otf.runs.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from otf.runs.directory import RunDirectory
from otf.runs.settings import changes, settings
from otf.runs.signals import StopRequest, stop_on_signals
from otf.runs.stopping import RdfWatch, Stopping
from otf.runs.warm_start import Gains, gains, warm_started

_TO_FINISH_S = 30.0  # of a job, to write what is left
_LOG = logging.getLogger("otf.session")

Watcher = Callable[[Record], None]


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes
    ----------
    steps, steps_wanted
        Committed, and asked for; proposals, for hybrid Monte Carlo.
    simulated_fs
        Time the atoms moved for.
    labels, labels_percent
        Engine calls, and their share of the timesteps.
    measured
        Errors at the labels whose time did not depend on the model's opinion, or None.
    by_kind
        The same apart for scheduled, random and triggered labels.
    model
        What the model has become.
    scf_first, scf_later
        Self-consistency cycles of the first label, which starts from scratch, and the mean of the
        others; None where the engine does not tell.
    gains
        What better starts of the labels were worth; None where they were not chosen.
    force_checks
        Force checks that were made, and those that spared a label.
    energy_conservation
        How well the energy balances, or None where there is none.
    label_wall_s
        Seconds spent in the engine over all sittings.
    session_wall_s
        Seconds this session took.
    engine_alone_s
        Estimate of what the engine alone would have needed: timesteps times its mean label.
    contract
        Whether the target was kept, or None where there is none or nothing was measured.
    sampling
        How hybrid Monte Carlo went, or None for dynamics.
    stopped_by
        What ended it early, or None.
    """

    directory: str
    engine: str
    level: str
    steps: int
    steps_wanted: int
    simulated_fs: float
    labels: int
    labels_percent: float
    measured: LabelStatistics | None
    by_kind: dict[str, LabelStatistics]
    model: str
    scf_first: int | None
    scf_later: float | None
    gains: Gains | None
    force_checks: ForceChecks
    energy_conservation: EnergyConservation | None
    contract: Contract | None
    sampling: Sampling | None
    label_wall_s: float
    session_wall_s: float
    engine_alone_s: float
    stopped_by: str | None


def run_session(
    run: RunDirectory,
    config: Config,
    atoms: Atoms,
    watch: Watcher = lambda _: None,
    *,
    ranks: Ranks | None = None,
) -> Summary:
    """Run, or go on with a run, to its end or to a signal.

    Parameters
    ----------
    run, config, atoms
        As made by :func:`~otf.runs.directory.create_run` and read by
        :func:`~otf.runs.directory.open_run`.
    watch
        Called with every record, after it is on the disk.
    ranks
        MPI ranks that share the work of the model.

    Raises
    ------
    RunError, EngineError, FileError
        The run cannot go on; what was committed can be resumed.
    """
    began = time.monotonic()
    engine = make_engine(config)
    check(config, atoms, engine.capabilities)
    with sole_owner(run.lock), run_log(run.log):
        job = this_job()
        if job is not None:
            _LOG.info("%s", job)
        _LOG.info("engine %s (%s), %d atoms", engine.kind, engine.capabilities.level, len(atoms))
        if config.model.residual == "propagate":
            _LOG.warning(
                "model.residual: propagate adds forces that have no potential and may heat or cool "
                "the system; their work is in the summary"
            )
        try:
            engine.open(atoms, run.scratch)
            with stop_on_signals() as request, closing(LabelFile(run.labels)) as file:
                source = warm_started(engine, run.matrices)
                parts = make_parts(config, atoms, source, file, ranks=ranks)
                state, stopped_by = commit_all(run, config, parts, watch, request, began=began)
                write_model(run.model, parts.trainer.force_model)
        except Exception as error:
            _LOG.error("stopped: %s", error)
            raise
        finally:
            engine.close()
        summary = summarise(run, config, engine, state, stopped_by, time.monotonic() - began)
        _LOG.info("%s", summary)
    return summary


def commit_all(
    run: RunDirectory,
    config: Config,
    parts: Parts,
    watch: Watcher,
    request: StopRequest,
    *,
    began: float,
) -> tuple[RunState | None, str | None]:
    """Consume the loop: frames to the trajectory, then the checkpoint that vouches for them.

    Returns
    -------
    The last state, and why it is not the end, if it is not.
    """
    state, n_frames, now = None, 0, settings(config)
    if run.checkpoint.exists():
        found = read_checkpoint(run.checkpoint)
        state, n_frames = found.state, found.n_frames
        for change in changes(found.settings, now, kind=config.engine.kind, source=str(run.config)):
            _LOG.info("changed: %s", change)
        _LOG.info("resuming at step %d with %d labels", state.step, state.trainer.n_labels)
    with closing(
        TrajectoryWriter(run.trajectory, parts.ensemble.atoms, keep=n_frames, stages=parts.stages)
    ) as trajectory:
        deadline, watched = _deadline(config.stop, began), _rdf_watch(run, config, parts)
        stopping = Stopping(request, config.stop, run.path, deadline, watched)
        if state is not None:
            stopping.known(state.history)
            reason = stopping.done(state.history)
            if reason is not None:
                return state, reason
        broken = False
        move = drive if parts.sampler is None else sample
        for record in move(parts, state):
            if isinstance(record, Segment):
                trajectory.append(record.frames)
                write_checkpoint(run.checkpoint, Checkpoint(record.state, trajectory.n_frames, now))
                state = record.state
                if record.label is not None:
                    _log_label(record.label)
                    broken = _warn_once(config, state.history, broken)
            watch(record)
            reason = stopping.reason(record)
            if reason is not None:
                _LOG.info("stopping: %s", reason)
                return state, reason
        return state, None


def _deadline(stop: Stop, began: float) -> float:
    """When the session is to be over on the monotonic clock, as told or as the job ends."""
    minutes, job = stop.wall_time_min, this_job()
    told = float("inf") if minutes is None else began + 60.0 * minutes
    left = None if job is None else job.seconds_left()
    return told if left is None else min(told, time.monotonic() + left - _TO_FINISH_S)


def _rdf_watch(run: RunDirectory, config: Config, parts: Parts) -> RdfWatch | None:
    """What looks at the radial distribution functions, if that was asked for."""
    stop = config.stop
    if stop.rdf_error is None:
        return None
    stage = len(parts.ensemble.stages) - 1 if parts.sampler is None else 1
    frame_fs = parts.timestep_fs * parts.frame_every
    watch = RdfWatch(
        parts.ensemble.atoms,
        stage=stage,
        wanted=stop.rdf_error,
        cutoff_A=stop.rdf_cutoff_A,
        # Vibrations are correlated over some 100 fs; samples of Monte Carlo hardly are.
        fewest=round(1000.0 / frame_fs) if parts.sampler is None else 200,
    )
    if run.trajectory.exists():
        watch.look_back(read_trajectory(run.trajectory, forces=False))
    return watch


def _warn_once(config: Config, history: tuple[LabelRecord, ...], before: bool) -> bool:
    """Say so while the run goes on when the target turns out not to be kept."""
    found = contract_of(config, history)
    broken = found is not None and found.verdict == "broken"
    if found is not None and broken and not before:
        _LOG.warning("%s", found.in_words())
    return broken


def contract_of(config: Config, history: tuple[LabelRecord, ...]) -> Contract | None:
    """Whether the target of a run was kept so far; None where there is none."""
    policy = config.policy
    if policy.kind != "adaptive" or config.dynamics.ensemble == "slhmc":
        return None
    return contract(
        history, target=policy.force_target_meV_A, confidence_percent=policy.confidence_percent
    )


def _log_label(r: LabelRecord) -> None:
    _LOG.info(
        "label %d step %d %s after %d: force MAE %.2f p95 %.2f max %.2f predicted %.2f meV/A, "
        "coverage %.0f %%, energy %.3f meV/atom, order %d lambda %.1e, engine %.2f s%s",
        r.index,
        r.step,
        r.reason,
        r.elapsed,
        1e3 * r.force_mae,
        1e3 * r.force_p95,
        1e3 * r.force_max,
        1e3 * r.predicted,
        1e2 * r.coverage,
        1e3 * r.energy_error,
        r.order,
        r.strength,
        r.wall_s,
        "" if r.scf_iterations is None else f", {r.scf_iterations} SCF iterations",
    )


def summarise(
    run: RunDirectory,
    config: Config,
    engine: Engine,
    state: RunState | None,
    stopped_by: str | None,
    wall_s: float,
) -> Summary:
    """What a run came to, from its last state."""
    history = state.history if state is not None else ()
    steps = state.step if state is not None else 0
    label_s = sum(r.wall_s for r in history)
    sampled = state is not None and state.sampler is not None
    moves = sum(r.elapsed for r in history) if sampled else steps
    return Summary(
        directory=str(run.path),
        engine=engine.kind,
        level=engine.capabilities.level,
        steps=steps,
        steps_wanted=config.dynamics.total_steps,
        simulated_fs=moves * config.dynamics.timestep_fs,
        labels=len(history),
        labels_percent=100.0 * len(history) / max(1, moves),
        measured=statistics(history),
        by_kind=by_kind(history),
        model=f"{history[-1].size}, order {history[-1].order}"
        if history
        else "nothing learned yet",
        scf_first=history[0].scf_iterations if history else None,
        scf_later=_mean_cycles(history[1:]),
        gains=gains(run.matrices, history),
        force_checks=ForceChecks() if state is None else state.force_checks,
        contract=contract_of(config, history),
        sampling=sampling(history, state.sampler, steps=steps) if state is not None else None,
        energy_conservation=energy_conservation(read_scalars(run.trajectory), history)
        if steps
        else None,
        label_wall_s=label_s,
        session_wall_s=wall_s,
        engine_alone_s=(moves + 1) * label_s / max(1, len(history)),
        stopped_by=stopped_by,
    )


def _mean_cycles(history: tuple[LabelRecord, ...]) -> float | None:
    cycles = [r.scf_iterations for r in history if r.scf_iterations is not None]
    return sum(cycles) / len(cycles) if cycles else None


def default_directory(config: Config, source: Path) -> Path:
    """Where a run goes when nobody says: what the configuration names, else runs/<its name>."""
    return config.output.directory or Path("runs") / source.stem

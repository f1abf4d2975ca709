"""Commits the records of the loop to the files of a run."""

import logging
import time
from collections.abc import Generator
from contextlib import closing

from otf.config import Config
from otf.config.schema import Stop
from otf.driver.hybrid_monte_carlo import sample
from otf.driver.loop import drive
from otf.driver.records import LabelRecord, Parts, Record, Segment
from otf.driver.thermodynamics import runaway
from otf.engines.allocation import this_job
from otf.errors import RunError
from otf.io.trajectory import TrajectoryWriter, read_trajectory
from otf.runs.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from otf.runs.directory import RunDirectory
from otf.runs.settings import changes, settings
from otf.runs.signals import StopRequest
from otf.runs.stopping import RdfWatch, Stopping
from otf.runs.summary import Outcome, contract_of

_TO_FINISH_S = 30.0  # before the end of a job, to write the last files
_LOG = logging.getLogger("otf.session")


def committed(
    run: RunDirectory, config: Config, parts: Parts, *, request: StopRequest, began: float
) -> Generator[Record, None, Outcome]:
    """Yield the records of the loop, each after its data are on disk.

    Frames are appended to the trajectory before the checkpoint that counts them is replaced.

    Parameters
    ----------
    request
        Whether the session is to stop.
    began
        Start of the session on the monotonic clock, s.

    Returns
    -------
    The last state, and the reason if the session ended early.
    """
    state, n_frames, earlier_s, now = None, 0, 0.0, settings(config)
    if run.checkpoint.exists():
        found = read_checkpoint(run.checkpoint)
        state, n_frames, earlier_s = found.state, found.n_frames, found.wall_s
        for change in changes(found.settings, now, kind=config.engine.kind, source=str(run.config)):
            _LOG.info("changed: %s", change)
        _LOG.info("resuming at step %d with %d labels", state.step, state.trainer.n_labels)

    def wall_s() -> float:
        return earlier_s + time.monotonic() - began

    with closing(
        TrajectoryWriter(run.trajectory, parts.ensemble.atoms, keep=n_frames, stages=parts.stages)
    ) as trajectory:
        deadline, watched = _deadline(config.stop, began), _rdf_watch(run, config, parts)
        stopping = Stopping(request, config.stop, run.path, deadline, watched)
        if state is not None:
            stopping.known(state.history)
            reason = stopping.done(state.history)
            if reason is not None:
                return Outcome(state, reason, earlier_s)
        broken = False
        move = drive if parts.sampler is None else sample
        for record in move(parts, state):
            if isinstance(record, Segment):
                trajectory.append(record.frames)
                write_checkpoint(
                    run.checkpoint, Checkpoint(record.state, trajectory.n_frames, now, wall_s())
                )
                state = record.state
                for label in record.labels:
                    _log_label(label)
                    broken = _warn_once(config, state.history, broken)
                _stop_runaway(config, state.history, len(parts.ensemble.atoms))
            yield record
            reason = stopping.reason(record)
            if reason is not None:
                _LOG.info("stopping: %s", reason)
                return Outcome(state, reason, wall_s())
        return Outcome(state, None, wall_s())


def _deadline(stop: Stop, began: float) -> float:
    """Deadline of the session on the monotonic clock, from the configuration and the job."""
    minutes, job = stop.wall_time_min, this_job()
    limit = float("inf") if minutes is None else began + 60.0 * minutes
    left = None if job is None else job.seconds_left()
    return limit if left is None else min(limit, time.monotonic() + left - _TO_FINISH_S)


def _rdf_watch(run: RunDirectory, config: Config, parts: Parts) -> RdfWatch | None:
    """Convergence monitor of the radial distribution functions, if configured."""
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
    """Log a warning the first time the force error target is not kept."""
    found = contract_of(config, history)
    broken = found is not None and found.verdict == "broken"
    if found is not None and broken and not before:
        _LOG.warning("%s", found.in_words())
    return broken


def _stop_runaway(config: Config, history: tuple[LabelRecord, ...], n_atoms: int) -> None:
    """Stop a run whose energy is not that of its system any more.

    Raises
    ------
    RunError
        If the errors of the model changed the energy by as much as the kinetic energy.
    """
    stages = config.dynamics.staged().values()
    hottest = max(max(d.temperature_K, d.temperature_end_K or 0.0) for d in stages)
    found = runaway(history, n_atoms=n_atoms, temperature_K=hottest)
    if found:
        raise RunError(f"step {history[-1].step}: {found}")


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

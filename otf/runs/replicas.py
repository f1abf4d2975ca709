"""Replicas that share one model: every label is learned for all of them.

Each replica is a run of its own, in its own directory and thread. A lock lets one replica at a time
compute with the model; it is released only while the replica waits for its engine: for a label or
a force check. There the model can change, and nowhere else: a label is learned and its segment,
integrated once more on one model, committed before another replica moves. The order in which labels
are learned depends on their wall times: a killed run continues from the last commit of each replica
with all computed labels, but not on the trajectory it would have followed.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.config import Config
from otf.driver.generators import exhausted
from otf.driver.records import Parts, Record
from otf.driver.statistics import TrajectoryError
from otf.engines.allocation import Allocation, this_job
from otf.engines.launch import UNBOUND
from otf.engines.protocol import Engine, LabelSource
from otf.errors import ConfigError, OtfError, RunError
from otf.io.durable import sole_owner
from otf.io.labels import LabelFile
from otf.io.runlog import run_log
from otf.learning.model_file import write_model
from otf.learning.regression import Taught
from otf.learning.shared import ReplicaTrainer, SharedTrainer
from otf.model.descriptor import displaced
from otf.model.tensor_energy import Ranks
from otf.runs.assemble import make_engine, make_parts, make_trainer
from otf.runs.baseline import baseline_of
from otf.runs.check import check
from otf.runs.checkpoint import read_checkpoint
from otf.runs.commit import committed
from otf.runs.create import create_run
from otf.runs.directory import RunDirectory, read_run, replica_directory, replicas_below
from otf.runs.earlier import read_earlier, taught
from otf.runs.engine_processes import EngineInProcesses, EngineProcesses
from otf.runs.opened_engines import cores_of_a_label, room_for_engines
from otf.runs.settings import changes, settings
from otf.runs.signals import StopRequest, stop_on_signals
from otf.runs.stopping import DONE, EXIT_FILE
from otf.runs.summary import Outcome, Summary, error_of, summarise
from otf.runs.turn_taking import StoppedError, TurnTakingEngine
from otf.runs.warm_start import warm_started

_LOG = logging.getLogger("otf.replicas")
_GLANCE_S = 0.2  # between checks of the threads, so that signals are handled

ReplicaWatcher = Callable[[int, Record], None]


@dataclass(frozen=True)
class ReplicasSummary:
    """Summary of a run of replicas.

    Attributes
    ----------
    replicas
        Summaries of the replicas.
    labels
        Engine calls of all replicas.
    error
        Error of the trajectories of all replicas; None with fewer than three audits.
    stopped_by
        Reason for an early end, or None.
    """

    directory: str
    replicas: list[Summary]
    labels: int
    error: TrajectoryError | None
    session_wall_s: float
    stopped_by: str | None

    @property
    def steps(self) -> int:
        """Total steps of all replicas."""
        return sum(replica.steps for replica in self.replicas)


def run_replicas(
    run: RunDirectory,
    config: Config,
    watch: ReplicaWatcher = lambda _replica, _record: None,
    *,
    ranks: Ranks | None = None,
) -> ReplicasSummary:
    """Run or continue all replicas to their end or to a signal.

    Raises
    ------
    RunError, EngineError, FileError, ConfigError
        If one of them cannot continue; all stop then and can be resumed from their last commits.
    """
    began = time.monotonic()
    with (
        sole_owner(run.lock),
        run_log(run.log),
        stop_on_signals() as request,
        ExitStack() as stack,
    ):
        job = this_job()
        if job is not None:
            _LOG.info("%s", job)
        _make_missing(run, config)
        opened = [_opened(run, config, k) for k in range(config.replicas.count)]
        samples = _samples([atoms for _, _, atoms in opened])
        common = _Common(
            SharedTrainer(
                make_trainer(
                    config.effective_model,
                    samples,
                    ranks=ranks,
                    earlier=taught(read_earlier(run), opened[0][2]),
                    baseline=stack.enter_context(closing(baseline_of(config, run, opened[0][2]))),
                )
            ),
            request,
            watch,
            began,
        )
        replicas = _assembled(config, opened, common, job, stack)
        _restore(common.trainer, replicas)
        try:
            _run_all(replicas, common, run.path / EXIT_FILE)
        except Exception as error:
            _LOG.error("stopped: %s", error)
            raise
        finally:
            if common.trainer.trainer.n_labels:
                write_model(run.model, common.trainer.trainer.force_model)
        summary = _summary(run, config, replicas, time.monotonic() - began)
        _LOG.info("%s", summary)
    return summary


@dataclass(frozen=True, eq=False)
class _Common:
    """Objects shared by the replicas of a run.

    Attributes
    ----------
    trainer
        The trainer of the shared model.
    request
        Whether the run is to stop.
    watch
        Called with each record of a replica.
    began
        Start of the session on the monotonic clock, s.
    model_lock
        Held by the replica that computes with the model.
    """

    trainer: SharedTrainer
    request: StopRequest
    watch: ReplicaWatcher
    began: float
    model_lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(eq=False)
class _Replica:
    """A replica with its parts and its result.

    Attributes
    ----------
    summary, error
        Set when its thread ends.
    """

    number: int
    run: RunDirectory
    config: Config
    engine: Engine
    file: LabelFile
    parts: Parts
    summary: Summary | None = None
    error: Exception | None = None


_Opened = tuple[RunDirectory, Config, Atoms]


def _assembled(
    config: Config,
    opened: list[_Opened],
    common: _Common,
    job: Allocation | None,
    stack: ExitStack,
) -> list[_Replica]:
    """Create the replicas with opened engines, to be closed by the stack."""
    at_once = _labels_at_once(config)
    _LOG.info("%d replicas, %d labels at once", config.replicas.count, at_once)
    if at_once > 1:  # else Open MPI binds the first rank of every engine to the same core
        os.environ.update(UNBOUND)
    limit = threading.BoundedSemaphore(at_once)
    processes = None
    if config.replicas.backend == "executorlib":
        processes = stack.enter_context(
            closing(EngineProcesses(at_once, cores_of_a_label(config), job))
        )
    replicas = []
    for number, (directory, own, atoms) in enumerate(opened):
        stack.enter_context(sole_owner(directory.lock))
        engine = make_engine(own)
        source: LabelSource = engine
        if processes is not None:
            source = EngineInProcesses(processes, engine, own, directory.scratch, atoms)
        check(own, atoms, source.capabilities)
        if processes is None:
            stack.callback(engine.close)
            engine.open(atoms, directory.scratch)
        in_turn = TurnTakingEngine(
            warm_started(source, directory.matrices),
            common.model_lock,
            limit=limit,
            request=common.request,
            pauses=at_once < config.replicas.count,
        )
        file = stack.enter_context(closing(LabelFile(directory.labels)))
        trainer = ReplicaTrainer(common.trainer, number)
        parts = make_parts(own, atoms, in_turn, file, trainer=trainer)
        replicas.append(_Replica(number, directory, own, engine, file, parts))
    return replicas


def _make_missing(run: RunDirectory, config: Config) -> None:
    """Create the missing replica directories.

    Raises
    ------
    ConfigError
        If there are more than configured.
    """
    there = len(replicas_below(run.path))
    if there > config.replicas.count:
        raise ConfigError(
            [f"{run.config}: replicas.count: there are {there} replicas; set it to {there} or more"]
        )
    for number in range(config.replicas.count):
        directory = replica_directory(run, number)
        if directory.config.exists():
            continue
        own = config.of_replica(number)
        if config.replicas.structures:
            named = {"structure": config.replicas.structures[number], "repeat": (1, 1, 1)}
            own = own.model_copy(update={"system": own.system.model_copy(update=named)})
        create_run(own, run.config, directory.path)


def _opened(run: RunDirectory, config: Config, number: int) -> tuple[RunDirectory, Config, Atoms]:
    """Open the run of a replica, with settings that may change from the common configuration.

    Raises
    ------
    ConfigError
        If another setting of the replica differs.
    """
    directory, own, atoms = read_run(replica_directory(run, number).path)
    wanted = config.of_replica(number)
    free = {"policy": wanted.policy, "output": wanted.output, "stop": wanted.stop}
    own = own.model_copy(update=free)
    kept = [
        {k: v for k, v in settings(c).items() if k.startswith(("dynamics.", "model."))}
        for c in (own, wanted)
    ]
    changes(kept[0], kept[1], kind=config.engine.kind, source=str(run.config))
    return directory, own, atoms


def _samples(structures: list[Atoms]) -> list[Atoms]:
    """Displaced copies of every distinct structure."""
    different: list[Atoms] = []
    for atoms in structures:
        if not any(np.array_equal(atoms.positions, a.positions) for a in different):
            different.append(atoms)
    return [moved for k, atoms in enumerate(different) for moved in displaced(atoms, seed=1 + k)]


def _labels_at_once(config: Config) -> int:
    """The configured number, else as many engines as the cores allow."""
    if config.replicas.labels_at_once is not None:
        return config.replicas.labels_at_once
    return max(1, min(config.replicas.count, room_for_engines(config)))


def _run_one(replica: _Replica, common: _Common) -> None:
    """Run a replica to its end or until the run stops; target of its thread."""
    run = replica.run
    with common.model_lock:
        try:
            try:
                records = committed(
                    run,
                    replica.config,
                    replica.parts,
                    request=common.request,
                    began=common.began,
                )
                outcome = exhausted(records, lambda record: common.watch(replica.number, record))
            except StoppedError:
                known = run.checkpoint.exists()
                state = read_checkpoint(run.checkpoint).state if known else None
                outcome = Outcome(state, common.request.signal)
            write_model(run.model, replica.parts.trainer.force_model)
            replica.summary = summarise(run, replica.config, replica.engine, outcome)
        except Exception as error:  # reaches the main thread
            replica.error = error


def _restore(shared: SharedTrainer, replicas: list[_Replica]) -> None:
    """Restore the shared model from the latest checkpoint and the labels since."""
    states = [
        read_checkpoint(replica.run.checkpoint).state
        for replica in replicas
        if replica.run.checkpoint.exists()
    ]
    fs = [replica.config.dynamics.timestep_fs for replica in replicas]
    taught = [
        [
            Taught(s.atoms, s.labels, s.step * fs[replica.number], replica.number)
            for s in (replica.file[i] for i in range(len(replica.file)))
        ]
        for replica in replicas
    ]
    shared.restore([state.trainer for state in states], taught)


def _run_all(replicas: list[_Replica], common: _Common, exit_file: Path) -> None:
    """Run all replicas in threads and wait for them; the first error stops all."""
    request = common.request
    threads = [  # daemons: a second interrupt does not wait for them
        threading.Thread(
            target=_run_one, args=(replica, common), name=f"replica-{replica.number}", daemon=True
        )
        for replica in replicas
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(_GLANCE_S / len(threads))
        if exit_file.exists() and not request:
            exit_file.unlink()
            request.signal = f"the file {EXIT_FILE}"
        failed = next((replica for replica in replicas if replica.error is not None), None)
        if failed is not None and not request:
            _LOG.error("replica %d: %s", failed.number, failed.error)
            request.signal = f"the failure of replica {failed.number}"
    for replica in replicas:
        if replica.error is not None:
            if isinstance(replica.error, OtfError):
                raise RunError(f"replica {replica.number}: {replica.error}") from replica.error
            raise replica.error


def _summary(
    run: RunDirectory, config: Config, replicas: list[_Replica], wall_s: float
) -> ReplicasSummary:
    summaries = [replica.summary for replica in replicas if replica.summary is not None]
    histories = [
        read_checkpoint(replica.run.checkpoint).state.history
        for replica in replicas
        if replica.run.checkpoint.exists()
    ]
    early = [s.stopped_by for s in summaries if s.stopped_by and s.stopped_by not in DONE]
    return ReplicasSummary(
        directory=str(run.path),
        replicas=summaries,
        labels=sum(s.labels for s in summaries),
        error=error_of(config, tuple(record for history in histories for record in history)),
        session_wall_s=wall_s,
        stopped_by=early[0] if early else None,
    )

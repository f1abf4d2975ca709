"""Continuation of a run in another job when the time limit of its job is reached."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from otf.engines.allocation import Allocation, this_job
from otf.errors import ClusterError
from otf.runs.signals import asked_to_stop
from otf.runs.stopping import TIME_IS_OVER
from otf.slurm import commands

_LOG = logging.getLogger("otf.slurm")
_LAST_S = 15.0  # time before the end at which the continuation is arranged at the latest

Again = Literal["requeue", "chain"]


class Continuation:
    """Continuation of a run in another job, arranged only once.

    Parameters
    ----------
    job
        The present job.
    how
        Requeue the job, or chain: submit another that follows it.
    run
        The run directory; a following job runs the script there, or that of the present job.
    """

    def __init__(self, job: Allocation, how: Again, run: Path) -> None:
        self._job = job
        self._how = how
        self._script = run.absolute() / commands.JOB_SCRIPT
        self._once = threading.Lock()

    def go_on(self) -> str:
        """Arrange the continuation and return a message; after a requeue Slurm ends this process.

        Raises
        ------
        ClusterError
            If Slurm refuses.
        """
        if not self._once.acquire(blocking=False):
            return f"job {self._job.job} continues in another one"
        try:
            return self._go_on()
        except ClusterError:
            self._once.release()
            raise

    def _go_on(self) -> str:
        if self._how == "requeue":
            commands.requeue(self._job.job)
            return f"job {self._job.job} is requeued"
        if "_" in self._job.job:
            raise ClusterError("a task of a job array cannot be followed by another; use requeue")
        if not self._script.exists():
            commands.save_script(self._job.job, self._script)
        after = f"--dependency=afterany:{self._job.job}"
        return f"job {commands.submit(self._script, options=[after])} follows"


def _committed_since(run: Path, when: float) -> bool:
    """Whether the run or one of its replicas has committed since, by file modification times."""
    checkpoints = [run / "checkpoint.h5", *run.glob("replica-*/checkpoint.h5")]
    return any(path.exists() and path.stat().st_mtime >= when for path in checkpoints)


@contextmanager
def going_on(run: Path, how: Again | None) -> Iterator[Continuation | None]:
    """Context that arranges the continuation shortly before the end of the job.

    A run that stops at a safe point before that calls :meth:`Continuation.go_on` itself. Yields
    None outside a job, or if no continuation is requested.

    Parameters
    ----------
    run
        The run directory.
    how
        See :class:`Continuation`.
    """
    job = this_job()
    if how is None or job is None:
        yield None
        return
    continuation = Continuation(job, how, run)
    left = job.seconds_left()
    if left is None:
        yield continuation
        return

    began = time.clock_gettime(time.CLOCK_REALTIME)

    def at_the_last_moment() -> None:
        _LOG.warning("the time limit of the job is reached during a label")
        if asked_to_stop() not in (None, *TIME_IS_OVER):
            return
        if not _committed_since(run, began) and (job.restarts > 0 or how == "chain"):
            _LOG.error("no label fits into the time of a job: raise cluster.time")
            return
        try:
            _LOG.info("%s", continuation.go_on())
        except ClusterError as error:
            _LOG.error("no job follows: %s", error)

    timer = threading.Timer(max(0.0, left - _LAST_S), at_the_last_moment)
    timer.daemon = True
    timer.start()
    try:
        yield continuation
    finally:
        timer.cancel()

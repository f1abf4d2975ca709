"""Conditions that end a session early: signal, file, wall time, or enough results."""

import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.analysis.rdf import RdfSum
from otf.arrays import Floats
from otf.config.schema import Stop
from otf.driver.records import Activity, LabelRecord, Record, Segment
from otf.io.committed import Frame, Trajectory
from otf.runs.signals import StopRequest

ENOUGH = "enough labels"
RDF_KNOWN = "the RDF being known well enough"
DONE = (ENOUGH, RDF_KNOWN)
"""Reasons after which the run is complete."""
_WALL_TIME = "the wall time"
TOO_SHORT = "a wall time shorter than a label takes (cluster.time, stop.wall_time_min)"
TIME_IS_OVER = (_WALL_TIME, signal.SIGUSR1.name)
"""Reasons due to the job, not to the run."""
EXIT_FILE = "EXIT"
"""Name of the file in the run directory that requests a stop; it is removed then."""

_RDF_BIN_A = 0.05
_RDF_EVERY = 5  # frames: consecutive ones are correlated

_FIRST_LABEL_S = 0.0  # no estimate yet
_SPARE = 1.5  # times the median label: estimate for the next one


class Stopping:
    """Checks at every record whether the session ends there.

    Parameters
    ----------
    request
        Set by signals.
    stop
        The ``stop`` section of the configuration.
    directory
        The run directory.
    deadline
        Latest end of the session on the monotonic clock, s.
    rdf
        Convergence monitor of the radial distribution functions, or None.
    """

    def __init__(
        self,
        request: StopRequest,
        stop: Stop,
        directory: Path,
        deadline: float,
        rdf: "RdfWatch | None" = None,
    ) -> None:
        self._request = request
        self._labels = stop.labels
        self._exit = directory / EXIT_FILE
        self._deadline = deadline
        self._seconds: list[float] = []
        self._committed = False
        self._rdf = rdf

    def known(self, history: tuple[LabelRecord, ...]) -> None:
        """Take the wall times of labels from earlier sessions."""
        self._seconds = [record.wall_s for record in history]

    def done(self, history: tuple[LabelRecord, ...]) -> str | None:
        """Reason why a resumed run is already complete, or None."""
        if self._labels is not None and len(history) >= self._labels:
            return ENOUGH
        return RDF_KNOWN if self._rdf is not None and self._rdf.known_after(()) else None

    def reason(self, record: Record) -> str | None:
        """Reason to end at this record, or None; called before an activity starts."""
        if self._request:
            return self._request.signal
        if isinstance(record, Activity) and record.phase != "label":
            return None  # checking disk and clock at every step would be slow
        if isinstance(record, Segment):
            self._committed = True
            self._seconds += [label.wall_s for label in record.labels]
            if self._labels is not None and len(record.state.history) >= self._labels:
                return ENOUGH
            if self._rdf is not None and self._rdf.known_after(record.frames):
                return RDF_KNOWN
        if self._exit.exists():
            self._exit.unlink()
            return f"the file {EXIT_FILE}"
        label_s = statistics.median(self._seconds) if self._seconds else _FIRST_LABEL_S
        # Without a single label in a session, resubmitting would repeat it forever.
        spare = _SPARE if self._committed else 1.0
        ahead = spare * label_s if isinstance(record, Activity) else 0.0
        if time.monotonic() + ahead <= self._deadline:
            return None
        return _WALL_TIME if self._committed else TOO_SHORT


class RdfWatch:
    """Convergence monitor of the radial distribution functions of a run.

    Parameters
    ----------
    atoms
        Species and periodicity.
    stage
        Number of the stage whose frames count.
    wanted, cutoff_A
        Largest standard error of any g(r), up to this distance.
    fewest
        Minimum number of frames: blocks of fewer are not independent.
    """

    def __init__(
        self, atoms: Atoms, *, stage: int, wanted: float, cutoff_A: float, fewest: int
    ) -> None:
        self._sum = RdfSum(atoms, cutoff_A, max(1, round(cutoff_A / _RDF_BIN_A)))
        self._stage = stage
        self._wanted = wanted
        self._fewest = fewest
        self._seen = 0

    def look_back(self, trajectory: Trajectory) -> None:
        """Add the frames of earlier sessions."""
        for i in np.flatnonzero(trajectory.stage == self._stage):
            self._add(trajectory.positions[i], trajectory.cells[i])

    def known_after(self, frames: Sequence[Frame]) -> bool:
        """Add committed frames; return whether the functions are converged."""
        for frame in frames:
            if frame.stage == self._stage:
                self._add(frame.positions, frame.cell)
        return self._seen > self._fewest and self._sum.result().worst_error < self._wanted

    def _add(self, positions: Floats, cell: Floats) -> None:
        if self._seen % _RDF_EVERY == 0:
            self._sum.add(positions, cell)
        self._seen += 1

"""Why a session ends before the run does: a signal, a file, its time, or enough results."""

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
"""Reasons after which nothing is left to do."""
_WALL_TIME = "the wall time"
TOO_SHORT = "a wall time shorter than a label takes (cluster.time, stop.wall_time_min)"
TIME_IS_OVER = (_WALL_TIME, signal.SIGUSR1.name)
"""Reasons that have to do with the job, not with the run."""
EXIT_FILE = "EXIT"
"""Name of the file in the run directory that asks a session to end; it is removed."""

_RDF_BIN_A = 0.05
_RDF_EVERY = 5  # frames: neighbours in time say the same

_FIRST_LABEL_S = 0.0  # nothing is known of it
_SPARE = 1.5  # times the median label: what the next one may take


class Stopping:
    """Looks at every record whether the session is to end there.

    Parameters
    ----------
    request
        Set by signals.
    stop
        What the configuration says.
    directory
        Of the run.
    deadline
        On the monotonic clock, s; by then the session is to be over.
    rdf
        Looks at the frames where the configuration wants it, else None.
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
        """Labels of earlier sittings tell what one takes."""
        self._seconds = [record.wall_s for record in history]

    def done(self, history: tuple[LabelRecord, ...]) -> str | None:
        """Why a run that is resumed has nothing left to do, or None."""
        if self._labels is not None and len(history) >= self._labels:
            return ENOUGH
        return RDF_KNOWN if self._rdf is not None and self._rdf.known_after(()) else None

    def reason(self, record: Record) -> str | None:
        """Why to end at this record, or None. Called before what it announces is done."""
        if self._request:
            return self._request.signal
        if isinstance(record, Activity) and record.phase != "label":
            return None  # a glance at the disk and the clock for every step would be felt
        if isinstance(record, Segment):
            self._committed = True
            if record.label is not None:
                self._seconds.append(record.label.wall_s)
            if self._labels is not None and len(record.state.history) >= self._labels:
                return ENOUGH
            if self._rdf is not None and self._rdf.known_after(record.frames):
                return RDF_KNOWN
        if self._exit.exists():
            self._exit.unlink()
            return f"the file {EXIT_FILE}"
        label_s = statistics.median(self._seconds) if self._seconds else _FIRST_LABEL_S
        # A session that cannot do a single label would be followed by another like it.
        spare = _SPARE if self._committed else 1.0
        ahead = spare * label_s if isinstance(record, Activity) else 0.0
        if time.monotonic() + ahead <= self._deadline:
            return None
        return _WALL_TIME if self._committed else TOO_SHORT


class RdfWatch:
    """Whether the radial distribution functions of a run are known as well as wanted.

    Parameters
    ----------
    atoms
        Species and periodicity.
    stage
        Number of the stage whose frames count.
    wanted, cutoff_A
        Largest standard error of any g(r), up to this distance.
    fewest
        Frames before which no error is believed: blocks of fewer are not independent.
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
        """Take in the frames of earlier sittings."""
        for i in np.flatnonzero(trajectory.stage == self._stage):
            self._add(trajectory.positions[i], trajectory.cells[i])

    def known_after(self, frames: Sequence[Frame]) -> bool:
        """Take in committed frames; whether they were enough."""
        for frame in frames:
            if frame.stage == self._stage:
                self._add(frame.positions, frame.cell)
        return self._seen > self._fewest and self._sum.result().worst_error < self._wanted

    def _add(self, positions: Floats, cell: Floats) -> None:
        if self._seen % _RDF_EVERY == 0:
            self._sum.add(positions, cell)
        self._seen += 1

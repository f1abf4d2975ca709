"""Why a sitting ends before the run does: a signal, a file, its time, or enough labels."""

import statistics
import time
from pathlib import Path

from otf.config.schema import Stop
from otf.driver.interrupt import StopRequest
from otf.driver.records import Activity, LabelRecord, Record, Segment

ENOUGH = "enough labels"
"""The one reason after which nothing is left to do."""
EXIT_FILE = "EXIT"
"""Name of the file in the run directory that asks a sitting to end; it is removed."""

_FIRST_LABEL_S = 0.0  # nothing is known of it
_SPARE = 1.5  # times the median label: what the next one may take


class Stopping:
    """Looks at every record whether the sitting is to end there.

    Parameters
    ----------
    request
        Set by signals.
    stop
        What the configuration says.
    directory
        Of the run.
    began
        Start of the sitting on the monotonic clock, s.
    """

    def __init__(self, request: StopRequest, stop: Stop, directory: Path, began: float) -> None:
        self._request = request
        self._labels = stop.labels
        self._exit = directory / EXIT_FILE
        minutes = stop.wall_time_min
        self._deadline = float("inf") if minutes is None else began + 60.0 * minutes
        self._seconds: list[float] = []

    def known(self, history: tuple[LabelRecord, ...]) -> None:
        """Labels of earlier sittings tell what one takes."""
        self._seconds = [record.wall_s for record in history]

    def reason(self, record: Record) -> str | None:
        """Why to end at this record, or None. Called before what it announces is done."""
        if self._request:
            return self._request.signal
        if isinstance(record, Activity) and record.phase != "label":
            return None  # a glance at the disk and the clock for every step would be felt
        if isinstance(record, Segment):
            if record.label is not None:
                self._seconds.append(record.label.wall_s)
            if self._labels is not None and len(record.state.history) >= self._labels:
                return ENOUGH
        if self._exit.exists():
            self._exit.unlink()
            return f"the file {EXIT_FILE}"
        label_s = statistics.median(self._seconds) if self._seconds else _FIRST_LABEL_S
        ahead = _SPARE * label_s if isinstance(record, Activity) else 0.0
        return "the wall time" if time.monotonic() + ahead > self._deadline else None

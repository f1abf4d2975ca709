"""Progress of a run: a bar on a terminal, plain lines in a batch log."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from otf.driver.records import LabelRecord, Record, Segment
from otf.io.runlog import LOGGER

_BATCH_SECONDS = 30.0
_HEAD_WIDTH, _BAR_WIDTH, _LINE_WIDTH = 36, 20, 90  # characters: predict 1234567/1234567 12:34:56


class _Tally:
    """Statistics of the run so far, and its speed compared with the engine alone."""

    def __init__(self, timestep_fs: float) -> None:
        self._timestep_fs = timestep_fs
        self._began = time.monotonic()
        self._first_step: int | None = None
        self.step = 0
        self.labels = 0
        self.gap = 0
        self.last: LabelRecord | None = None
        self._label_s = 0.0

    def add(self, segment: Segment) -> None:
        self.step = segment.state.step
        self._first_step = self.step if self._first_step is None else self._first_step
        self.gap = segment.state.policy.steps
        history = segment.state.history
        self.labels = len(history)
        self.last = history[-1]
        self._label_s = sum(r.wall_s for r in history) / len(history)

    def line(self) -> str:
        """Labels, last measured error, gap and speed in one line."""
        if self.last is None:
            return "waiting for the first label"
        error = f"{1e3 * self.last.force_mae:.1f} meV/A" if self.labels > 1 else "-"
        parts = [f"labels {self.labels}", f"last error {error}", f"gap {self.gap}"]
        elapsed = time.monotonic() - self._began
        steps = self.step - (self._first_step or 0)
        if steps and elapsed > 0:
            ns_day = 86400.0 / 1e6 * self._timestep_fs
            parts.append(f"{ns_day * steps / elapsed:.3g} ns/day")
            parts.append(f"engine alone {ns_day / max(self._label_s, 1e-9):.3g}")
        return ", ".join(parts)


class _Live:
    """Display of records on a progress bar."""

    def __init__(self, bar: Progress, steps: int, timestep_fs: float) -> None:
        self._tally = _Tally(timestep_fs)
        self._bar = bar
        self._phase = "label"
        self._task = bar.add_task("", total=steps, phase=self._phase, line="")

    def __call__(self, record: Record) -> None:
        if isinstance(record, Segment):
            self._tally.add(record)
            self._bar.update(self._task, completed=self._tally.step, line=self._tally.line())
        elif record.phase != self._phase:
            self._phase = record.phase
            self._bar.update(self._task, phase=record.phase)


class _Plain:
    """Display of records as lines, printed at intervals."""

    def __init__(self, steps: int, timestep_fs: float) -> None:
        self._steps = steps
        self._tally = _Tally(timestep_fs)
        self._printed: float | None = None

    def __call__(self, record: Record) -> None:
        if not isinstance(record, Segment):
            return
        self._tally.add(record)
        now = time.monotonic()
        if self._printed is None or now - self._printed >= _BATCH_SECONDS:
            self._printed = now
            click.echo(f"step {self._tally.step}/{self._steps}, {self._tally.line()}", err=True)


@contextmanager
def progress(steps: int, timestep_fs: float) -> Iterator[Callable[[Record], None]]:
    """Function to call with every record: shows a bar on a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Plain(steps, timestep_fs)
        return
    with _bar(console) as bar:
        yield _Live(bar, steps, timestep_fs)


class _Line(ProgressColumn):
    """The end of the line, cut off where the terminal ends."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def render(self, task: Task) -> Text:
        """As much of the line as there is room for."""
        return Text(str(task.fields["line"])[: self._room], no_wrap=True)


def _bar(console: Console) -> Progress:
    """Phase, steps and remaining time; then a bar and more, as far as there is room."""
    columns: list[ProgressColumn] = [
        TextColumn("{task.fields[phase]:<7}"),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    ]
    room = console.width - _HEAD_WIDTH
    if room >= _LINE_WIDTH + _BAR_WIDTH:
        columns.append(BarColumn(bar_width=_BAR_WIDTH))
        room -= _BAR_WIDTH + 1
    return Progress(*columns, _Line(max(0, room)), console=console)


class _Screen(logging.Handler):
    """Shows warnings of the run's log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one on the error output, where the error that ends a run is printed anyway."""
        if record.levelno < logging.ERROR:
            click.echo(f"warning: {record.getMessage()}", err=True)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Shows warnings on the screen, besides in the log."""
    screen = _Screen(logging.WARNING)
    LOGGER.addHandler(screen)
    try:
        yield
    finally:
        LOGGER.removeHandler(screen)


@contextmanager
def replicas_progress(count: int) -> Iterator[Callable[[int, Record], None]]:
    """The same for several replicas: plain lines at intervals."""
    steps, labels = [0] * count, [0] * count
    printed: float | None = None

    def show(replica: int, record: Record) -> None:
        nonlocal printed
        if not isinstance(record, Segment):
            return
        steps[replica], labels[replica] = record.state.step, len(record.state.history)
        now = time.monotonic()
        if printed is None or now - printed >= _BATCH_SECONDS:
            printed = now
            at = " ".join(map(str, steps))
            click.echo(f"replicas at steps {at}, labels {sum(labels)}", err=True)

    yield show

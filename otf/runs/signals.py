"""Signals that request a stop of the run at its last committed segment."""

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_LOG = logging.getLogger("otf.signals")
_SAME_S = 1.0  # signals within this time are one
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Set once a signal has arrived."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


_latest = StopRequest()


def asked_to_stop() -> str | None:
    """The signal that stopped the present or latest session, or None."""
    return _latest.signal


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM and SIGUSR1 into a request while the context lasts.

    A second SIGINT or SIGTERM ends the session at once, for an engine that hangs: nothing that was
    committed is lost. One that follows immediately is the same one, sent along another way.
    """
    global _latest
    request = _latest = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # signals go to the main thread
        return

    first_s = math.inf

    def remember(number: int, _: FrameType | None) -> None:
        nonlocal first_s
        if request and number == signal.SIGUSR1:
            return  # the end of the job does not replace an earlier stop request
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        if request and time.monotonic() - first_s > _SAME_S:
            raise SystemExit(128 + number)
        request.signal = signal.Signals(number).name
        first_s = min(first_s, time.monotonic())
        _LOG.warning(
            "%s: stopping at the next safe point; another one ends at once", request.signal
        )

    before = {number: signal.signal(number, remember) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is remember:  # not that of a session opened since
                signal.signal(number, handler)

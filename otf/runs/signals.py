"""Signals that request a stop of the run at its last committed segment."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_LOG = logging.getLogger("otf.signals")
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

    A second SIGINT interrupts at once, as usual.
    """
    global _latest
    request = _latest = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # signals go to the main thread
        return

    def remember(number: int, _: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        if request and number == signal.SIGUSR1:
            return  # the end of the job does not replace an earlier stop request
        request.signal = signal.Signals(number).name
        _LOG.warning("%s: stopping at the next safe point", request.signal)

    before = {number: signal.signal(number, remember) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is remember:  # not that of a session opened since
                signal.signal(number, handler)

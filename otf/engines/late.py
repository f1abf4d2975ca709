"""Warnings while an answer of an engine is late, so that one that hangs is not waited for."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LOG = logging.getLogger("otf.labels")

USUALLY_AT_MOST = 10.0
"""Times the longest answer so far, after which one is late."""


@contextmanager
def warned_when_late(index: int, *, longest_s: float, after_s: float) -> Iterator[None]:
    """Warn while the context lasts longer than an answer should; again each time it has doubled.

    Parameters
    ----------
    index
        Number of the label.
    longest_s
        Longest answer so far, seconds; 0 if there was none.
    after_s
        Time before which no answer is late, seconds.
    """
    began, finished = time.monotonic(), threading.Event()

    def watch() -> None:
        limit = max(after_s, USUALLY_AT_MOST * longest_s)
        while not finished.wait(began + limit - time.monotonic()):
            earlier = f"; the longest took {longest_s:.1f} s so far" if longest_s else ""
            _LOG.warning(
                "label %d: the engine has not answered for %.0f s%s. If it hangs, stop the run "
                "(twice Ctrl-C, or SIGTERM) and resume it: nothing committed is lost",
                index,
                time.monotonic() - began,
                earlier,
            )
            limit *= 2

    watcher = threading.Thread(target=watch, name=f"label-{index}", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()

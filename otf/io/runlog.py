"""``run.log``: the log file of a run."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from otf.io.durable import no_link

LOGGER = logging.getLogger("otf")


class _LogFile(logging.FileHandler):
    """Log file that ignores write errors: a full disk is reported when results are written."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return TextIOWrapper(os.fdopen(no_link(self.baseFilename, flags), "ab"), encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:
        return

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class _Formatter(logging.Formatter):
    """Formatter that adds the name of the replica, if there are several."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if (record.threadName or "").startswith("replica-"):
            return line.replace(
                f" {record.levelname} ", f" {record.levelname} {record.threadName} "
            )
        return line


@contextmanager
def run_log(path: Path) -> Iterator[logging.Logger]:
    """Append everything logged under ``otf`` to a file while the context lasts."""
    handler = _LogFile(path, mode="a", encoding="utf-8")
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield LOGGER
    finally:
        LOGGER.setLevel(level)
        LOGGER.removeHandler(handler)
        handler.close()

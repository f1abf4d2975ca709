"""Directories of an engine's labels: what a label left for the next one to start from."""

import shutil
from pathlib import Path

_MARK = "fingerprint.json"


class LabelDirectories:
    """One directory a label; only that of the label before serves a warm start.

    Parameters
    ----------
    scratch
        Where they are.
    """

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch

    def path(self, index: int) -> Path:
        """Directory of a label, there or not."""
        return self._scratch / f"label-{index:06d}"

    def fresh(self, index: int) -> Path:
        """The directory of a label, empty."""
        directory = self.path(index)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return directory

    def left_by(self, index: int, fingerprint: str) -> Path | None:
        """Directory of a label that succeeded with the same settings, or None."""
        mark = self.path(index) / _MARK
        fits = mark.exists() and mark.read_text(encoding="utf-8") == fingerprint
        return mark.parent if fits else None

    def succeeded(self, index: int, fingerprint: str) -> None:
        """Keep this label's directory for the next one, and none before it."""
        (self.path(index) / _MARK).write_text(fingerprint, encoding="utf-8")
        for old in self._scratch.glob("label-*"):
            if int(old.name.removeprefix("label-")) < index:
                shutil.rmtree(old, ignore_errors=True)

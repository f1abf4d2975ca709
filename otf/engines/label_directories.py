"""Directories of an engine's labels, from which the next label starts."""

import shutil
from pathlib import Path

_MARK = "fingerprint.json"


class LabelDirectories:
    """One directory per label; only that of the previous label is used for a warm start.

    Parameters
    ----------
    scratch
        Parent of the directories.
    """

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch

    def path(self, index: int) -> Path:
        """Directory of a label, whether or not it exists."""
        return self._scratch / f"label-{index:06d}"

    def fresh(self, index: int) -> Path:
        """Make the directory of a label, empty."""
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
        """Keep the directory of this label for the next one, and remove earlier ones."""
        (self.path(index) / _MARK).write_text(fingerprint, encoding="utf-8")
        for old in self._scratch.glob("label-*"):
            if int(old.name.removeprefix("label-")) < index:
                shutil.rmtree(old, ignore_errors=True)

"""``checkpoint.h5``: the state of a run after its last committed segment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otf.driver.records import RunState
from otf.io.dataclass_file import read_dataclass, write_dataclass

_KIND = "checkpoint"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run state with the committed frames and settings it belongs to.

    Attributes
    ----------
    n_frames
        Number of frames committed.
    settings
        Settings of the run, see :mod:`otf.runs.settings`.
    wall_s
        Wall time of all sessions so far, s.
    """

    state: RunState
    n_frames: int
    settings: Mapping[str, Any]
    wall_s: float = 0.0


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of a run, replacing the previous one.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    write_dataclass(path, _KIND, checkpoint)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the checkpoint of a run.

    Raises
    ------
    FileError
        If it is damaged, or of another version of otf.
    """
    return read_dataclass(path, _KIND, Checkpoint)

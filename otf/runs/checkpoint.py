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
    """A state with what it belongs to.

    Attributes
    ----------
    n_frames
        Frames committed with it.
    settings
        Those the run was made with, see :mod:`otf.runs.settings`.
    """

    state: RunState
    n_frames: int
    settings: Mapping[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint of a run.

    Raises
    ------
    FileError
        If the disk does not take it.
    """
    write_dataclass(path, _KIND, checkpoint)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint of a run.

    Raises
    ------
    FileError
        If it is damaged, or of another version of otf.
    """
    return read_dataclass(path, _KIND, Checkpoint)

"""The committed frames of a run as a sequence of ASE structures."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from otf.io.trajectory import read_scalars, read_trajectory


class FrameSequence(Sequence[Atoms]):
    """Frames of a trajectory, read on access, with energy and forces attached.

    Parameters
    ----------
    path
        ``trajectory.h5``; frames committed later are not part of the sequence.

    Raises
    ------
    FileError
        If there is no trajectory yet, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._length = len(read_scalars(path))

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Atoms: ...

    @overload
    def __getitem__(self, index: slice) -> list[Atoms]: ...

    def __getitem__(self, index: int | slice) -> Atoms | list[Atoms]:
        """One frame, or a list of those in a slice."""
        if isinstance(index, int):
            return self._frames([range(self._length)[index]])[0]
        return self._frames(list(range(self._length)[index]))

    def _frames(self, rows: list[int]) -> list[Atoms]:
        order = np.argsort(rows)
        t = read_trajectory(self._path, np.array(rows, dtype=np.int64)[order])
        found: dict[int, Atoms] = {}
        for i, place in enumerate(order):
            atoms = t.frame(i)
            atoms.calc = SinglePointCalculator(
                atoms, energy=float(t.potential_energy[i]), forces=t.forces[i]
            )
            atoms.info.update(step=int(t.step[i]), time_fs=float(t.time_fs[i]))
            found[int(place)] = atoms
        return [found[place] for place in range(len(rows))]

"""Frames of any trajectory, in the one form that all analyses take."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms
from ase.cell import Cell

from otf.arrays import Floats, Ints
from otf.errors import RunError


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of one system.

    Attributes
    ----------
    name
        Where they are from.
    atoms
        Species, masses and periodicity; its positions mean nothing.
    positions
        (frames, N, 3), Angstrom, not wrapped.
    cells
        (frames, 3, 3), Angstrom.
    time_fs
        (frames,); None where the frames are no dynamics, or do not say when they were.
    velocities
        (frames, N, 3), Angstrom/fs, or None.
    series
        What is one number a frame, by names with their units.
    stages, stage
        Names of the stages of a run, and (frames,) numbers of the frames' own; empty, and None,
        where there are none.
    """

    name: str
    atoms: Atoms
    positions: Floats
    cells: Floats
    time_fs: Floats | None = None
    velocities: Floats | None = None
    series: dict[str, Floats] = field(default_factory=dict)
    stages: tuple[str, ...] = ()
    stage: Ints | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def spacing_fs(self) -> float:
        """Time between two frames.

        Raises
        ------
        RunError
            If there is none, or it is not always the same.
        """
        if self.time_fs is None:
            raise RunError(f"{self.name}: its frames have no times; give --timestep-fs")
        steps = np.diff(self.time_fs)
        if len(steps) == 0 or np.ptp(steps) > 1e-3 * abs(steps.mean()):
            raise RunError(f"{self.name}: its frames are not evenly spaced in time")
        return float(steps.mean())

    def structure(self, row: int) -> Atoms:
        """One of the frames as atoms."""
        atoms = self.atoms.copy()
        atoms.set_cell(self.cells[row])
        atoms.positions = self.positions[row]
        return atoms

    def at(self, time_fs: Floats) -> "Frames":
        """The same frames, at these times."""
        return replace(self, time_fs=time_fs)

    def chosen(self, rows: Ints) -> "Frames":
        """Some of the frames, which increase."""
        if len(rows) == len(self):
            return self
        return replace(
            self,
            positions=self.positions[rows],
            cells=self.cells[rows],
            time_fs=None if self.time_fs is None else self.time_fs[rows],
            velocities=None if self.velocities is None else self.velocities[rows],
            series={name: values[rows] for name, values in self.series.items()},
            stage=None if self.stage is None else self.stage[rows],
        )

    def of_stage(self, name: str | None) -> "Frames":
        """Those of a stage; of the last one that has frames by default, and of all for ``all``.

        Raises
        ------
        RunError
            If there is no such stage, or it has no frames.
        """
        if name == "all" or (name is None and self.stage is None):
            return self
        if self.stage is None:
            raise RunError(f"{self.name}: has no stages; leave --stage out")
        if len(self) == 0:
            raise RunError(f"{self.name}: holds no frame yet")
        number = int(self.stage.max()) if name is None else -1
        if name is not None:
            if name not in self.stages:
                raise RunError(
                    f"{self.name}: has no stage '{name}'; its stages are {', '.join(self.stages)}"
                )
            number = self.stages.index(name)
        rows = np.flatnonzero(self.stage == number)
        if len(rows) == 0:
            raise RunError(f"{self.name}: stage '{name}' has no frames yet")
        return self.chosen(rows)

    def between(self, start_fs: float | None, stop_fs: float | None, every: int = 1) -> "Frames":
        """Those from a time to another, every so many of them.

        Raises
        ------
        RunError
            If there are none, or they have no times.
        """
        keep = np.ones(len(self), dtype=bool)
        if start_fs is not None or stop_fs is not None:
            if self.time_fs is None:
                raise RunError(f"{self.name}: its frames have no times; give --timestep-fs")
            keep &= self.time_fs >= (-np.inf if start_fs is None else start_fs)
            keep &= self.time_fs <= (np.inf if stop_fs is None else stop_fs)
        rows = np.flatnonzero(keep)[::every]
        if len(rows) == 0:
            raise RunError(f"{self.name}: no frame lies between --from and --to")
        return self.chosen(rows)


def of_one_system(runs: Sequence[Frames]) -> None:
    """Refuse runs that cannot be analysed together.

    Raises
    ------
    RunError
        If their atoms or their periodicity differ.
    """
    first = runs[0]
    for run in runs[1:]:
        if not np.array_equal(run.atoms.numbers, first.atoms.numbers):
            raise RunError(f"{run.name}: holds other atoms than {first.name}; analyse them apart")
        if not np.array_equal(run.atoms.pbc, first.atoms.pbc):
            raise RunError(f"{run.name}: is periodic otherwise than {first.name}")


def unwrapped(positions: Floats, cells: Floats, pbc: np.ndarray) -> Floats:
    """Positions (frames, N, 3) of atoms that were put back into the cell, followed out of it.

    No atom may move half a cell between two frames.
    """
    if not pbc.any() or len(positions) < 2:
        return positions
    full = np.array([Cell(cell).complete().array for cell in cells[1:]])
    steps = np.einsum("fni,fij->fnj", np.diff(positions, axis=0), np.linalg.inv(full))
    steps -= np.round(steps) * pbc
    moved = np.einsum("fni,fij->fnj", steps, full)
    return np.concatenate([positions[:1], positions[0] + np.cumsum(moved, axis=0)])

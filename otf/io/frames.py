"""Frames of a trajectory, independent of its file format: the input of all analyses."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms
from ase.cell import Cell

from otf.arrays import Floats, Ints
from otf.errors import RunError

_ONE_CELL = 1.02  # range of the fractional coordinates of wrapped atoms, with rounding
_SMALL_STEP = 0.2  # fractional, root mean square


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of one system.

    Attributes
    ----------
    name
        Name of the source, such as its path.
    atoms
        Species, masses and periodicity; its positions are not used.
    positions
        (frames, N, 3), Angstrom, not wrapped.
    cells
        (frames, 3, 3), Angstrom.
    time_fs
        (frames,); None if the frames are not dynamics, or have no times.
    velocities
        (frames, N, 3), Angstrom/fs, or None.
    series
        (frames,) scalar quantities by name, with the unit in the name.
    stages, stage
        Names of the stages of a run, and (frames,) stage number of each frame; empty and None if
        there are no stages.
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
            If the frames have no times, or are not evenly spaced.
        """
        if self.time_fs is None:
            raise RunError(f"{self.name}: its frames have no times; give --timestep-fs")
        steps = np.diff(self.time_fs)
        if len(steps) == 0 or np.ptp(steps) > 1e-3 * abs(steps.mean()):
            raise RunError(f"{self.name}: its frames are not evenly spaced in time")
        return float(steps.mean())

    def structure(self, row: int) -> Atoms:
        """One frame as ``ase.Atoms``."""
        atoms = self.atoms.copy()
        atoms.set_cell(self.cells[row])
        atoms.positions = self.positions[row]
        return atoms

    def at(self, time_fs: Floats) -> "Frames":
        """The same frames with other times."""
        return replace(self, time_fs=time_fs)

    def chosen(self, rows: Ints) -> "Frames":
        """The frames with these indices, in increasing order."""
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
        """The frames of a stage: by default of the last that has any, or ``all``.

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
            raise RunError(f"{self.name}: has no frames yet")
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
        """The frames of a time interval, ends included, thinned to every ``every``-th.

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
            raise RunError(f"{self.name}: no frame is between --from and --to")
        return self.chosen(rows)


def of_one_system(runs: Sequence[Frames]) -> None:
    """Check that runs are of one system and can be analysed together.

    Raises
    ------
    RunError
        If their atoms or their periodicity differ.
    """
    first = runs[0]
    for run in runs[1:]:
        if not np.array_equal(run.atoms.numbers, first.atoms.numbers):
            raise RunError(
                f"{run.name}: holds other atoms than {first.name}; analyse them separately"
            )
        if not np.array_equal(run.atoms.pbc, first.atoms.pbc):
            raise RunError(
                f"{run.name}: has other periodic directions than {first.name}; analyse them "
                "separately"
            )


def right_handed(cell: Floats) -> tuple[Floats, list[int]]:
    """The vectors of the same lattice (3, 3) in a right-handed order, and that order.

    DeePMD-kit refuses left-handed ones, and LAMMPS's convention would mirror the structure.
    """
    order = [0, 2, 1] if np.linalg.det(cell) < 0.0 else [0, 1, 2]
    return cell[order], order


def unwrapped(positions: Floats, cells: Floats, pbc: np.ndarray) -> Floats:
    """Unwrap the positions (frames, N, 3) of atoms that were wrapped into the cell.

    Steps are taken in fractional coordinates, as the cell may vary. Positions that were not wrapped
    are returned as they are, also where atoms move by more than half a cell between two frames.
    """
    if not pbc.any() or len(positions) < 2:
        return positions
    full = np.array([Cell(cell).complete().array for cell in cells])
    scaled = np.einsum("fni,fij->fnj", positions, np.linalg.inv(full))
    steps = np.diff(scaled, axis=0)
    crossings = np.round(steps) * pbc
    if not crossings.any() or not _wrapped(scaled, steps, crossings):
        return positions
    scaled = np.concatenate([scaled[:1], scaled[0] + np.cumsum(steps - crossings, axis=0)])
    return np.asarray(np.einsum("fni,fij->fnj", scaled, full))


def _wrapped(scaled: Floats, steps: Floats, crossings: Floats) -> bool:
    """Whether steps of half a cell or more are crossings of the cell's boundary.

    They are if all atoms stay within a cell, or, where molecules are kept whole, if the rest of
    such steps is small. That of long steps of atoms that were not wrapped is not.
    """
    crossed = crossings != 0.0
    spread = np.ptp(scaled, axis=(0, 1))[crossed.any(axis=(0, 1))]
    rest = (steps - crossings)[crossed]
    return bool((spread < _ONE_CELL).all() or np.sqrt(np.mean(rest**2)) < _SMALL_STEP)

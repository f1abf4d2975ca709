"""Regular real-space grids over a cell or a box."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms

from otf.arrays import Floats

Part = tuple[slice, slice, slice]
"""Slices of the arrays of a grid that hold a block of points."""

_BLOCK = 12  # points along each side of a block
_MARGIN_A = 5.0  # of the box around a molecule


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid.

    Attributes
    ----------
    origin
        (3,) position of the first point, Angstrom.
    steps
        (3, 3) vectors from one point to the next along each axis, Angstrom.
    shape
        Number of points along each axis.
    """

    origin: Floats
    steps: Floats
    shape: tuple[int, int, int]

    @property
    def volume(self) -> float:
        """Volume per point, cubic Angstrom."""
        return float(abs(np.linalg.det(self.steps)))

    def sampled(self, function: Callable[[Floats], Floats], *, threads: int = 1) -> Floats:
        """Evaluate a function of points (P, 3) on the grid, block by block.

        Parameters
        ----------
        threads
            Number of threads; useful if the function releases the interpreter lock.
        """
        values = np.empty(self.shape)

        def fill(part: Part) -> None:
            values[part] = function(self.points(part)).reshape(values[part].shape)

        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(fill, self.parts()):
                pass
        return values

    def parts(self) -> Iterator[Part]:
        """Compact blocks that make up the grid."""
        pieces = [[slice(k, min(k + _BLOCK, n)) for k in range(0, n, _BLOCK)] for n in self.shape]
        yield from product(*pieces)

    def points(self, part: Part) -> Floats:
        """Points (P, 3) of a block."""
        axes = (np.arange(piece.start, piece.stop) for piece in part)
        indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        return np.asarray(self.origin + indices @ self.steps)


def grid_of(atoms: Atoms, spacing_A: float) -> Grid:
    """Grid over the cell of a periodic structure, or over a box around a molecule.

    Raises
    ------
    ValueError
        If the structure is periodic and has no volume.
    """
    if atoms.pbc.any():
        cell = atoms.cell.array
        if abs(np.linalg.det(cell)) < np.finfo(float).eps:
            raise ValueError("the cell has no volume: give it three vectors")
        shape = np.maximum(np.ceil(np.linalg.norm(cell, axis=1) / spacing_A), 1).astype(int)
        return Grid(np.zeros(3), cell / shape[:, None], _three(shape))
    low = atoms.positions.min(axis=0) - _MARGIN_A
    high = atoms.positions.max(axis=0) + _MARGIN_A
    shape = np.ceil((high - low) / spacing_A).astype(int) + 1
    return Grid(low, spacing_A * np.eye(3), _three(shape))


def _three(shape: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[int, int, int]:
    x, y, z = (int(n) for n in shape)
    return x, y, z

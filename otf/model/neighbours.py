"""Neighbour list of a moving structure, rebuilt only when an atom has moved far enough."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms

from otf.arrays import Floats
from otf.kernels.descriptor import Neighbours
from otf.kernels.neighbours import neighbour_list, reverse_slots


@dataclass(frozen=True, eq=False)
class _Built:
    """A neighbour list and the structure for which it was built."""

    positions: Floats
    cell: Floats
    pbc: npt.NDArray[np.bool_]
    neighbours: Neighbours


class NeighbourCache:
    """Neighbour list with a skin, cached between calls.

    The list holds all pairs up to cutoff + skin and stays complete until an atom has moved by more
    than skin/2, or a little less if the cell has been strained. The kernels skip pairs beyond the
    cutoff, and rows are sorted, so results are bitwise independent of when the list was built.

    Parameters
    ----------
    cutoff, skin
        Angstrom.
    """

    def __init__(self, cutoff: float, *, skin: float = 0.5) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self._built: _Built | None = None

    def of(self, atoms: Atoms) -> tuple[Floats, Neighbours]:
        """Full-rank cell (3, 3) and neighbours of a structure."""
        cell = np.ascontiguousarray(atoms.cell.complete().array)
        if self._built is None or not self._holds(self._built, atoms, cell):
            first, index, shift = neighbour_list(
                atoms.positions,
                cell,
                np.linalg.inv(cell),
                atoms.pbc.astype(np.int64),
                self.cutoff + self.skin,
            )
            neighbours = Neighbours(first, index, shift, reverse_slots(first, index, shift))
            self._built = _Built(atoms.positions.copy(), cell, atoms.pbc.copy(), neighbours)
        return cell, self._built.neighbours

    def _holds(self, built: _Built, atoms: Atoms, cell: Floats) -> bool:
        if built.positions.shape != atoms.positions.shape or not np.array_equal(
            built.pbc, atoms.pbc
        ):
            return False
        carried, shrunk = built.positions, 1.0
        if not np.array_equal(built.cell, cell):
            strain = np.linalg.solve(built.cell, cell)
            carried = built.positions @ strain
            shrunk = float(np.linalg.norm(np.linalg.inv(strain), 2))
        moved = atoms.positions - carried
        # Pairs within the cutoff now were within shrunk * (cutoff + 2 * farthest) at that time.
        farthest = 0.5 * ((self.cutoff + self.skin) / shrunk - self.cutoff)
        if farthest <= 0.0:
            return False
        return bool(np.einsum("ij,ij->i", moved, moved).max(initial=0.0) < farthest**2)

"""The neighbour list of a moving structure, rebuilt only when an atom has moved far enough."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms

from otf.arrays import Floats
from otf.kernels.descriptor import Neighbours
from otf.kernels.neighbours import neighbour_list, reverse_slots


@dataclass(frozen=True, eq=False)
class _Built:
    """A list and the structure it was built for."""

    positions: Floats
    cell: Floats
    pbc: npt.NDArray[np.bool_]
    neighbours: Neighbours


class NeighbourCache:
    """Neighbours within a cutoff, kept with a skin.

    The list holds all pairs up to cutoff + skin and stays complete until an atom has moved more
    than skin/2, or a little less where the cell has been strained. Pairs beyond the cutoff are
    left out by the kernels, and rows are sorted, so the results are the same to the last bit
    whenever the list was built.

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
        # Whoever is within the cutoff now was within shrunk * (cutoff + 2 * farthest) then.
        farthest = 0.5 * ((self.cutoff + self.skin) / shrunk - self.cutoff)
        if farthest <= 0.0:
            return False
        return bool(np.einsum("ij,ij->i", moved, moved).max(initial=0.0) < farthest**2)

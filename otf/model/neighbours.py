"""The neighbour list of a moving structure, rebuilt only when an atom has moved far enough."""

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.kernels.descriptor import Neighbours
from otf.kernels.neighbours import neighbour_list


class NeighbourCache:
    """Neighbours within a cutoff, kept with a skin.

    The list holds all pairs up to cutoff + skin and stays complete until an atom has moved more
    than skin/2. Pairs beyond the cutoff are left out by the kernels, and rows are sorted, so the
    results are the same to the last bit whenever the list was built.

    Parameters
    ----------
    cutoff, skin
        Angstrom.
    """

    def __init__(self, cutoff: float, *, skin: float = 0.5) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self._positions: Floats | None = None
        self._cell: Floats | None = None
        self._pbc: Floats | None = None
        self._neighbours: Neighbours | None = None

    def of(self, atoms: Atoms) -> tuple[Floats, Neighbours]:
        """Full-rank cell (3, 3) and neighbours of a structure."""
        cell = np.ascontiguousarray(atoms.cell.complete().array)
        if self._neighbours is None or not self._holds(atoms, cell):
            # Molecules get no cell here: the search box is their own extent.
            self._neighbours = Neighbours(
                *neighbour_list(
                    atoms.positions,
                    cell,
                    np.linalg.inv(cell),
                    atoms.pbc.astype(np.int64),
                    self.cutoff + self.skin,
                )
            )
            self._positions = atoms.positions.copy()
            self._cell, self._pbc = cell, atoms.pbc.copy()
        return cell, self._neighbours

    def _holds(self, atoms: Atoms, cell: Floats) -> bool:
        if (
            self._positions is None
            or self._positions.shape != atoms.positions.shape
            or not np.array_equal(self._cell, cell)
            or not np.array_equal(self._pbc, atoms.pbc)
        ):
            return False
        moved = atoms.positions - self._positions
        return bool(np.einsum("ij,ij->i", moved, moved).max(initial=0.0) < (0.5 * self.skin) ** 2)

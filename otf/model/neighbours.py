"""Neighbour list of a moving structure, rebuilt only when an atom has moved far enough."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.kernels.descriptor import Neighbours
from otf.kernels.neighbours import neighbour_list, offsets_of, reverse_slots


@dataclass(frozen=True, eq=False)
class _Built:
    """A neighbour list, the structure for which it was built, and the box it is used in.

    Attributes
    ----------
    positions, cell, pbc
        The structure for which it was built.
    shifts, neighbours
        (P, 3) periodic images, and the list with their offsets in the box.
    box
        The cell and the periodicity.
    carried
        (N, 3) the positions, strained as the cell, Angstrom.
    farthest
        The list is complete as long as no atom is farther from there, Angstrom.
    """

    positions: Floats
    cell: Floats
    pbc: npt.NDArray[np.bool_]
    shifts: Ints
    neighbours: Neighbours
    box: bytes
    carried: Floats
    farthest: float

    def complete_for(self, positions: Floats) -> bool:
        """Whether the list holds all pairs of these positions in its box."""
        if positions.shape != self.carried.shape or self.farthest <= 0.0:
            return False
        moved = positions - self.carried
        farthest = np.einsum("ij,ij->i", moved, moved).max(initial=0.0)
        return bool(farthest < self.farthest**2)


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

    def of(self, atoms: Atoms) -> Neighbours:
        """Neighbours of a structure."""
        box = atoms.cell.array.tobytes() + atoms.pbc.tobytes()
        built = self._built
        if built is not None and built.box != box:
            built = self._strained(built, atoms, box)
        if built is None or not built.complete_for(atoms.positions):
            built = self._build(atoms, box)
        self._built = built
        return built.neighbours

    def _build(self, atoms: Atoms, box: bytes) -> _Built:
        cell = np.ascontiguousarray(atoms.cell.complete().array)
        first, index, shift = neighbour_list(
            atoms.positions,
            cell,
            np.linalg.inv(cell),
            atoms.pbc.astype(np.int64),
            self.cutoff + self.skin,
        )
        reverse = reverse_slots(first, index, shift)
        neighbours = Neighbours(first, index, offsets_of(shift, cell), reverse)
        positions = atoms.positions.copy()
        return _Built(
            positions, cell, atoms.pbc.copy(), shift, neighbours, box, positions, self.skin / 2
        )

    def _strained(self, built: _Built, atoms: Atoms, box: bytes) -> _Built | None:
        """A list for another cell; None if the periodicity is another."""
        if not np.array_equal(built.pbc, atoms.pbc):
            return None
        cell = np.ascontiguousarray(atoms.cell.complete().array)
        strain = np.linalg.solve(built.cell, cell)
        shrunk = float(np.linalg.norm(np.linalg.inv(strain), 2))
        return replace(
            built,
            neighbours=built.neighbours._replace(offsets=offsets_of(built.shifts, cell)),
            box=box,
            carried=built.positions @ strain,
            # Pairs within the cutoff now were within shrunk * (cutoff + 2 * farthest) at that time.
            farthest=0.5 * ((self.cutoff + self.skin) / shrunk - self.cutoff),
        )

"""Radial distribution functions of all pairs of species, and coordination numbers.

==============================================  ====================
formula                                         code
==============================================  ====================
g_ab(r) = V n_ab(r) / (N_a N_b 4 pi r^2 dr)     ``Rdf.g``
N_ab(r) = sum of n_ab up to r / N_a             ``Rdf.coordination``
==============================================  ====================

n is the number of ordered pairs a, b in a shell of volume 4 pi (r+^3 - r-^3) / 3. Periodic images
are included, so the cutoff may exceed half the cell, or the cell. A structure that is not periodic
in three directions has no density; g is then the number of atoms b around an atom a per unit of
length, 1/Angstrom.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from otf.analysis.blocks import BlockSum, Estimate
from otf.analysis.curves import Curves
from otf.arrays import Floats
from otf.io.frames import Frames, of_one_system
from otf.kernels.pair_histogram import count_pairs


@dataclass(frozen=True, eq=False)
class Rdf:
    """Radial distribution functions and coordination numbers by pair of species.

    Attributes
    ----------
    r
        (bins,) centres of the bins, Angstrom.
    g
        (bins,) for each pair, such as ``("O", "H")``. A pair is given in both orders only in
        ``coordination``, where the order matters.
    coordination
        (bins,) atoms of the second species within the upper edge of a bin around one of the first.
    frames
        Number of frames.
    """

    r: Floats
    g: dict[tuple[str, str], Estimate]
    coordination: dict[tuple[str, str], Estimate]
    frames: int

    @property
    def worst_error(self) -> float:
        """Largest standard error of any g; infinite if unknown."""
        worst = max(float(np.max(g.error)) for g in self.g.values())
        return worst if np.isfinite(worst) else float("inf")


class RdfSum:
    """Accumulator of pair distances over frames of one system.

    Parameters
    ----------
    atoms
        Species and periodicity.
    cutoff
        Largest distance, Angstrom.
    n_bins
        Number of bins up to the cutoff.
    """

    def __init__(self, atoms: Atoms, cutoff: float, n_bins: int) -> None:
        self._kinds, self._species = np.unique(atoms.numbers, return_inverse=True)
        self._population = np.bincount(self._species).astype(float)
        self._pbc = atoms.pbc.copy()
        self._cutoff = cutoff
        self._edges: Floats = np.linspace(0.0, cutoff, n_bins + 1)
        self._shape = (len(self._kinds), len(self._kinds), n_bins)
        self._sums = BlockSum()

    def add(self, positions: Floats, cell: Floats) -> None:
        """Add a frame: positions (N, 3) and cell (3, 3), Angstrom."""
        atoms = Atoms(positions=positions, cell=cell, pbc=self._pbc)
        full = np.ascontiguousarray(atoms.cell.complete().array)
        counts = np.zeros(self._shape)
        count_pairs(
            np.ascontiguousarray(positions),
            full,
            np.linalg.inv(full),
            self._pbc.astype(np.int64),
            self._species,
            self._cutoff,
            counts,
        )
        around = counts / self._population[:, None, None]
        if self._pbc.all():
            shells = 4.0 / 3.0 * np.pi * np.diff(self._edges**3)
            density = self._population / atoms.get_volume()
            g = around / (density[None, :, None] * shells)
        else:
            g = around / np.diff(self._edges)
        self._sums.add(np.stack([g, np.cumsum(around, axis=2)]))

    @property
    def frames(self) -> int:
        """Number of frames added."""
        return self._sums.count

    @property
    def autocorrelation_time(self) -> float:
        """Integrated autocorrelation time of the distributions, in frames."""
        return self._sums.autocorrelation_time

    def blocks(self, length: int) -> Floats:
        """Radial distribution functions (blocks, pairs, bins) in blocks of about so many frames.

        Raises
        ------
        ValueError
            If there are too few blocks.
        """
        found = self._sums.blocks(length)[:, 0]
        distinct: Floats = found[:, *np.triu_indices(len(self._kinds))]
        return distinct

    def result(self) -> Rdf:
        """Distributions of all frames added so far, with their errors.

        Raises
        ------
        ValueError
            If no frame was added.
        """
        total = self._sums.estimate()
        g, coordination = {}, {}
        for a, za in enumerate(self._kinds):
            for b, zb in enumerate(self._kinds):
                pair = (chemical_symbols[za], chemical_symbols[zb])
                if a <= b:
                    g[pair] = Estimate(total.mean[0, a, b], total.error[0, a, b])
                coordination[pair] = Estimate(total.mean[1, a, b], total.error[1, a, b])
        return Rdf(0.5 * (self._edges[1:] + self._edges[:-1]), g, coordination, self.frames)


def rdf(runs: Sequence[Frames], *, cutoff_A: float, bin_A: float) -> Curves:
    """Average g(r) and coordination numbers of all pairs over the frames of all runs.

    Raises
    ------
    RunError
        If the runs are of different systems.
    """
    found = summed(runs, cutoff_A=cutoff_A, bin_A=bin_A).result()
    periodic = bool(runs[0].atoms.pbc.all())
    unit = "" if periodic else "_per_A"
    y = {f"g_{a}_{b}{unit}": estimate for (a, b), estimate in found.g.items()}
    y |= {f"coordination_{a}_{b}": e for (a, b), e in found.coordination.items()}
    notes = () if periodic else ("not periodic, so no density: g is the number of atoms per A",)
    return Curves("radial distribution functions", "r_A", found.r, y, {}, notes)


def summed(runs: Sequence[Frames], *, cutoff_A: float, bin_A: float) -> RdfSum:
    """Accumulate all frames of all runs.

    Raises
    ------
    RunError
        If the runs are of different systems.
    """
    of_one_system(runs)
    first = runs[0]
    total = RdfSum(first.atoms, cutoff_A, max(1, round(cutoff_A / bin_A)))
    for run in runs:
        for positions, cell in zip(run.positions, run.cells, strict=True):
            total.add(positions, cell)
    return total

"""Angular distribution functions."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from otf.analysis.blocks import BlockSum, Estimate
from otf.analysis.curves import Curves
from otf.io.frames import Frames, of_one_system
from otf.kernels.angle_histogram import count_angles
from otf.kernels.neighbours import neighbour_list


def adf(runs: Sequence[Frames], *, cutoff_A: float, bin_degrees: float) -> Curves:
    """Distributions of the angles j-i-k over all centres i and pairs of neighbours j, k.

    Neighbours are atoms within the cutoff. Each curve is a density over degrees and integrates to
    one. Triples of species that never occur are left out.
    """
    of_one_system(runs)
    kinds, species = np.unique(runs[0].atoms.numbers, return_inverse=True)
    n_bins = max(1, round(180.0 / bin_degrees))
    pbc = runs[0].atoms.pbc
    total = BlockSum()
    for run in runs:
        for positions, cell in zip(run.positions, run.cells, strict=True):
            full = np.ascontiguousarray(Atoms(cell=cell, pbc=pbc).cell.complete().array)
            listed = neighbour_list(
                positions, full, np.linalg.inv(full), pbc.astype(np.int64), cutoff_A
            )
            histogram = np.zeros((len(kinds),) * 3 + (n_bins,))
            count_angles(positions, full, species, *listed, histogram)
            total.add(histogram)
    width = 180.0 / n_bins
    found = total.estimate()
    area = width * found.mean.sum(axis=-1)
    y = {}
    for triple in map(tuple, np.argwhere(area > 0.0)):
        i, a, b = triple
        name = "_".join(chemical_symbols[kinds[k]] for k in (a, i, b))
        mean, error = found.mean[triple], found.error[triple]
        y[f"density_{name}"] = Estimate(mean / area[triple], error / area[triple])
    middles = np.asarray(width * (np.arange(n_bins) + 0.5), dtype=np.float64)
    return Curves("angle distributions", "angle_degrees", middles, y, {})

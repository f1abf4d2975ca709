"""Distributions of the angles between neighbours of an atom."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from otf.analysis.blocks import block_estimate
from otf.analysis.curves import Curves
from otf.arrays import Floats
from otf.io.frames import Frames, of_one_system
from otf.kernels.angle_histogram import count_angles
from otf.kernels.neighbours import neighbour_list


def adf(runs: Sequence[Frames], *, cutoff_A: float, bin_degrees: float) -> Curves:
    """Angles j-i-k of neighbours within a cutoff, for every centre i and pair of neighbours.

    Each curve is a density over degrees: it integrates to one. Triples that never occur have none.
    """
    of_one_system(runs)
    kinds, species = np.unique(runs[0].atoms.numbers, return_inverse=True)
    n_bins = max(1, round(180.0 / bin_degrees))
    pbc = runs[0].atoms.pbc
    counts: list[Floats] = []
    for run in runs:
        for positions, cell in zip(run.positions, run.cells, strict=True):
            full = np.ascontiguousarray(Atoms(cell=cell, pbc=pbc).cell.complete().array)
            listed = neighbour_list(
                positions, full, np.linalg.inv(full), pbc.astype(np.int64), cutoff_A
            )
            histogram = np.zeros((len(kinds),) * 3 + (n_bins,))
            count_angles(positions, full, species, *listed, histogram)
            counts.append(histogram)
    samples = np.array(counts)
    width = 180.0 / n_bins
    total = samples.mean(axis=0).sum(axis=-1)
    y = {}
    for i, a, b in np.argwhere(total > 0.0):
        name = "_".join(chemical_symbols[kinds[k]] for k in (a, i, b))
        y[f"density_{name}"] = block_estimate(samples[:, i, a, b] / (total[i, a, b] * width))
    middles: Floats = np.asarray(width * (np.arange(n_bins) + 0.5), dtype=np.float64)
    return Curves("angle distributions", "angle_degrees", middles, y, {})

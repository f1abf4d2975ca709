"""Static structure factor at the wave vectors commensurate with the cell."""

from collections.abc import Sequence

import numpy as np

from otf.analysis.blocks import block_estimate
from otf.analysis.curves import Curves
from otf.errors import RunError
from otf.io.frames import Frames, of_one_system


def structure_factor(
    runs: Sequence[Frames], *, q_max: float, bin_width: float, reference: Frames | None = None
) -> Curves:
    """S(q) = |sum_i exp(i q r_i)|^2 / N, unweighted, averaged over shells of q.

    Parameters
    ----------
    q_max, bin_width
        Largest wave number and width of the shells, 1/Angstrom.
    reference
        The run whose mean cell gives the lengths of the wave vectors; by default the first run.

    Raises
    ------
    RunError
        If the system is not periodic in three directions.
    """
    of_one_system(runs)
    first = runs[0]
    if not first.atoms.pbc.all():
        raise RunError(
            f"{first.name}: the structure factor needs a structure periodic in three directions"
        )
    n_bins = max(1, int(np.ceil(q_max / bin_width)))
    mean_cell = (reference or first).cells.mean(axis=0)
    reciprocal = 2.0 * np.pi * np.linalg.inv(mean_cell).T
    reach = np.ceil(q_max * np.linalg.norm(mean_cell, axis=1) / (2 * np.pi))
    ranges = [np.arange(-r, r + 1) for r in reach.astype(int)]
    whole = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    size = np.linalg.norm(whole @ reciprocal, axis=1)
    half = (whole @ [1e6, 1e3, 1.0] > 0.0) & (size < q_max)  # S(-q) = S(q)
    whole, place = whole[half], np.minimum((size[half] / bin_width).astype(int), n_bins - 1)
    if not half.any():
        raise RunError(f"{first.name}: no wave vector of the cell is shorter than {q_max:g} 1/A")
    population = np.bincount(place, minlength=n_bins)
    samples = []
    for run in runs:
        for positions, cell in zip(run.positions, run.cells, strict=True):
            phases = 2.0 * np.pi * (positions @ np.linalg.inv(cell)) @ whole.T
            s = (np.cos(phases).sum(axis=0) ** 2 + np.sin(phases).sum(axis=0) ** 2) / len(positions)
            samples.append(np.bincount(place, s, minlength=n_bins)[population > 0])
    found = block_estimate(np.array(samples) / population[population > 0])
    middles = np.asarray(bin_width * (np.flatnonzero(population) + 0.5), dtype=np.float64)
    return Curves("static structure factor", "q_per_A", middles, {"s": found}, {})

r"""Free energies along a variable, from the frames of a biased or unbiased trajectory.

.. math::

   F(s) = -k_B T \ln \sum_t w_t\, \delta(s - s_t), \qquad w_t = e^{U(x_t) / k_B T}

where U is the bias; that of metadynamics with all of its hills, as it hardly changes any more in
the frames that are used (Branduardi, Bussi and Parrinello, J. Chem. Theory Comput. 8, 2247 (2012)).
"""

import numpy as np

from otf.analysis.blocks import FEWEST_BLOCKS, Estimate, autocorrelation_time, length_of_blocks
from otf.arrays import Floats
from otf.units import KELVIN

_MOST_BLOCKS = 50


def free_energy(values: Floats, bias: Floats, edges: Floats, *, temperature_K: float) -> Estimate:
    """Free energy (bins,) above its minimum, eV, with jackknife errors over blocks of frames.

    It is infinite where no frame is, and its error NaN where it is not known.

    Parameters
    ----------
    values, bias
        (frames,) the variable, and the energy of the bias, eV.
    edges
        (bins + 1,) of the bins.
    temperature_K
        T.
    """
    weights = weights_of(bias, temperature_K)
    length = length_of_blocks(autocorrelation_time(values), len(values))
    length = max(length, len(values) // _MOST_BLOCKS)
    blocks = np.arange(len(values)) // length
    sums = np.array(
        [
            np.histogram(values[blocks == b], edges, weights=weights[blocks == b])[0]
            for b in range(int(blocks.max()) + 1)
        ]
    )
    found = _of(sums.sum(axis=0), temperature_K)
    n, unknown = len(sums), np.full(len(edges) - 1, np.nan)
    if n < FEWEST_BLOCKS:
        return Estimate(found - found.min(), unknown)
    left = np.array([_of(sums.sum(axis=0) - one, temperature_K) for one in sums])
    with np.errstate(invalid="ignore"):  # bins that only one block has
        spread = np.sqrt((n - 1) / n * np.sum((left - left.mean(axis=0)) ** 2, axis=0))
    return Estimate(found - found.min(), np.where(np.isfinite(spread), spread, np.nan))


def weights_of(bias: Floats, temperature_K: float) -> Floats:
    """Weights (frames,) in the unbiased ensemble, the largest of them 1."""
    scaled = bias / (KELVIN * temperature_K)
    weights: Floats = np.exp(scaled - scaled.max())
    return weights


def _of(sums: Floats, temperature_K: float) -> Floats:
    """Free energies of a normalised distribution; infinite where it is zero."""
    with np.errstate(divide="ignore"):
        logarithms: Floats = np.log(np.maximum(sums, 0.0) / sums.sum())
    return -KELVIN * temperature_K * logarithms

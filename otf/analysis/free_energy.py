r"""Free energies along a variable, from the frames of a biased or unbiased trajectory.

.. math::

   F(s) = -k_B T \ln \sum_t w_t\, \delta(s - s_t), \qquad w_t = e^{U(x_t) / k_B T}

where U is the bias; that of metadynamics is the one that moved the frame, less an offset that grows
with the hills (Tiwary and Parrinello, J. Phys. Chem. B 119, 736 (2015); see
:meth:`otf.dynamics.bias.Bias.energies_of`). With the final hills for all frames, errors are larger,
and their estimate is too small, as fluctuations of the hills are missed.
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
    parts = [(values[blocks == b], weights[blocks == b]) for b in range(int(blocks.max()) + 1)]
    sums = np.array([np.histogram(v, edges, weights=w)[0] for v, w in parts])
    n, kT = len(sums), KELVIN * temperature_K
    with np.errstate(divide="ignore"):  # bins without frames
        found = -kT * np.log(sums.sum(axis=0))
        left = -kT * np.log(np.abs(sums.sum(axis=0) - sums))
    result = Estimate(found - found.min(), np.full(len(found), np.nan))
    always = (sums > 0.0).sum(axis=0) > 1
    if n < FEWEST_BLOCKS or not always.any():
        return result
    # Free energies have no zero: their errors are those relative to where the frames are.
    counts = np.histogram(values, edges)[0][always]
    left = left[:, always] - (left[:, always] @ counts / counts.sum())[:, None]
    spread = np.sum((left - left.mean(axis=0)) ** 2, axis=0)
    result.error[always] = np.sqrt((n - 1) / n * spread)
    return result


def weights_of(bias: Floats, temperature_K: float) -> Floats:
    """Weights (frames,) in the unbiased ensemble, the largest of them 1."""
    scaled = bias / (KELVIN * temperature_K)
    weights: Floats = np.exp(scaled - scaled.max())
    return weights

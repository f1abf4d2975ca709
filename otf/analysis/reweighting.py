r"""From averages over the model's trajectory to averages of the engine, by the labels of the run.

With :math:`\Delta = E_{engine} - V_{model}` at labels that sample what the model samples,

=======================================================================  =======================
formula                                                                  code
=======================================================================  =======================
<A>_engine = <A> + sum_k w_k A_k - mean A_k,  w_k ~ exp(-Delta_k / kT)     ``exponential``
<A>_engine = <A> - cov(A, Delta) / kT                                      ``first order``
=======================================================================  =======================

<A> is taken over all frames, the correction over the labels alone; so its own error, from leaving
out one label after the other, does not depend on how long the run is. The exponential needs that no
few labels hold all the weight (Zwanzig, J. Chem. Phys. 22, 1420 (1954)); first order, that Delta
scatters by less than about kT.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from otf.analysis.blocks import Estimate
from otf.arrays import Floats
from otf.units import KELVIN

Method = Literal["exponential", "first order", "none"]

_FEWEST = 20  # labels, for a covariance
_ENOUGH = 0.3  # effective share of the labels, for the exponential
_MILD = 1.5  # scatter of Delta in kT up to which first order says something


@dataclass(frozen=True, eq=False)
class Correction:
    """What the model did to an observable.

    Attributes
    ----------
    method, why
        How it was found, and why so.
    shift
        To be added to the model's mean, with its own error; NaN where there is no correction.
    labels, effective_labels
        How many there are, and how many of equal weight they are worth: (sum w)^2 / sum w^2.
    scatter_kT
        Standard deviation of Delta in units of kT.
    """

    method: Method
    why: str
    shift: Estimate
    labels: int
    effective_labels: float
    scatter_kT: float


def correction(samples: Floats, differences: Floats, *, temperature_K: float) -> Correction:
    """From an observable at the labels.

    Parameters
    ----------
    samples
        (labels, …), the observable.
    differences
        (labels,) energy of the engine less the model's, eV; a constant in them means nothing.
    """
    n = len(samples)
    delta = (differences - differences.mean()) / (KELVIN * temperature_K)
    nothing = np.full(samples.shape[1:], np.nan)
    none = Estimate(nothing, nothing)
    if n < _FEWEST:
        return Correction("none", f"{n} labels are too few", none, n, float(n), float("nan"))
    weights = np.exp(-(delta - delta.min()))
    effective = float(weights.sum() ** 2 / np.sum(weights**2))
    scatter = float(delta.std())
    if effective >= _ENOUGH * n:
        why = f"{effective:.0f} of {n} labels carry the weight"
        shift = _left_out(samples, weights, np.ones(n))
        return Correction("exponential", why, shift, n, effective, scatter)
    if scatter <= _MILD:
        why = f"only {effective:.1f} of {n} labels would carry the weight"
        shift = _first_order(samples, delta)
        return Correction("first order", why, shift, n, effective, scatter)
    why = (
        f"{effective:.1f} of {n} labels would carry the weight, and model and engine differ by "
        f"{scatter:.1f} kT: sample with slhmc, or learn better"
    )
    return Correction("none", why, none, n, effective, scatter)


def _left_out(samples: Floats, weights: Floats, plain: Floats) -> Estimate:
    """Weighted less plain mean, its error by the jackknife."""
    flat = samples.reshape(len(samples), -1)

    def without(w: Floats) -> tuple[Floats, Floats]:
        sums = w @ flat
        left: Floats = (sums - w[:, None] * flat) / (w.sum() - w)[:, None]
        return sums / w.sum(), left

    (mean, left), (mean_plain, left_plain) = without(weights), without(plain)
    return _jackknife(mean - mean_plain, left - left_plain, samples.shape[1:])


def _first_order(samples: Floats, delta: Floats) -> Estimate:
    """Minus the covariance with Delta / kT, its error by the jackknife."""
    flat, n = samples.reshape(len(samples), -1), len(samples)
    centred, shifted = flat - flat.mean(axis=0), delta - delta.mean()
    products = centred * shifted[:, None]
    whole = products.sum(axis=0) / (n - 1)
    left = (products.sum(axis=0) - products * n / (n - 1)) / (n - 2)
    return _jackknife(-whole, -left, samples.shape[1:])


def _jackknife(whole: Floats, left: Floats, shape: tuple[int, ...]) -> Estimate:
    n = len(left)
    error = np.sqrt((n - 1) / n * np.sum((left - left.mean(axis=0)) ** 2, axis=0))
    return Estimate(whole.reshape(shape), error.reshape(shape))

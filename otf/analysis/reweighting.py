r"""From averages over the model's trajectory to averages of the engine, by the labels of the run.

With :math:`\Delta = E_{engine} - V_{model}` at labels that sample what the model samples,

=======================================================================  =======================
formula                                                                  code
=======================================================================  =======================
<A>_engine = <A> + sum_k w_k A_k - mean A_k,  w_k ~ exp(-Delta_k / kT)     ``exponential``
<A>_engine = <A> - cov(A, Delta) / kT                                      ``first order``
=======================================================================  =======================

Where the model has its own value of A, such as its energy, the mean subtracted is of that.
<A> is taken over all frames, the correction over the labels alone; so its own error, from leaving
out one of ten blocks of labels after the other, does not depend on how long the run is. The
exponential needs that no few labels hold all the weight (Zwanzig, J. Chem. Phys. 22, 1420 (1954));
first order, that Delta scatters by less than about kT.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from otf.analysis.blocks import N_BLOCKS, Estimate
from otf.arrays import Floats, Ints
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


def correction(
    samples: Floats,
    differences: Floats,
    *,
    temperature_K: float,
    by_model: Floats | None = None,
) -> Correction:
    """From an observable at the labels.

    Parameters
    ----------
    samples
        (labels, …), the observable; by the engine, if it is one that the model has its own of.
    differences
        (labels,) energy of the engine less the model's, eV; a constant in them means nothing.
    by_model
        (labels, …), the observable as the model has it, such as the energy; by default the same.
    """
    plain = samples if by_model is None else by_model
    n = len(samples)
    nothing = np.full(samples.shape[1:], np.nan)
    none = Estimate(nothing, nothing)
    if n < _FEWEST:
        return Correction("none", f"{n} labels are too few", none, n, float(n), float("nan"))
    delta = (differences - differences.mean()) / (KELVIN * temperature_K)
    weights = np.exp(-(delta - delta.min()))
    effective = float(weights.sum() ** 2 / np.sum(weights**2))
    scatter = float(delta.std())
    if effective >= _ENOUGH * n:
        why = f"{effective:.0f} of {n} labels carry the weight"

        def reweighted(rows: Ints) -> Floats:
            w = weights[rows] / weights[rows].sum()
            mean: Floats = np.tensordot(w, samples[rows], 1) - plain[rows].mean(axis=0)
            return mean

        shift = _jackknife(reweighted, n)
        return Correction("exponential", why, shift, n, effective, scatter)
    if scatter <= _MILD:
        why = f"only {effective:.1f} of {n} labels would carry the weight"

        def first_order(rows: Ints) -> Floats:
            off = delta[rows] - delta[rows].mean()
            covariance = np.tensordot(off, samples[rows], 1) / (len(rows) - 1)
            apart: Floats = (samples[rows] - plain[rows]).mean(axis=0)
            return apart - covariance

        shift = _jackknife(first_order, n)
        return Correction("first order", why, shift, n, effective, scatter)
    why = (
        f"{effective:.1f} of {n} labels would carry the weight, and model and engine differ by "
        f"{scatter:.1f} kT: sample with slhmc, or learn better"
    )
    return Correction("none", why, none, n, effective, scatter)


def _jackknife(estimate: Callable[[Ints], Floats], n: int) -> Estimate:
    """What an estimate gives for all labels; its error, by leaving out block after block."""
    rows = np.arange(n)
    left = np.array([estimate(np.setdiff1d(rows, b)) for b in np.array_split(rows, N_BLOCKS)])
    spread = np.sum((left - left.mean(axis=0)) ** 2, axis=0)
    return Estimate(estimate(rows), np.sqrt((N_BLOCKS - 1) / N_BLOCKS * spread))

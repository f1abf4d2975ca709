r"""Corrections of model averages to averages of the engine, from the labels of a run.

With :math:`\Delta = E_{engine} - V_{model}` at labels that sample the model's distribution,

=======================================================================  =======================
formula                                                                  code
=======================================================================  =======================
<A>_engine = <A> + sum_k w_k A_k - mean A_k,  w_k ~ exp(-Delta_k / kT)     ``exponential``
<A>_engine = <A> - cov(A, Delta) / kT                                      ``first order``
=======================================================================  =======================

If the model has its own value of A, such as its energy, the mean of that value is subtracted. <A>
is taken over all frames, the correction over the labels alone; so the error of the correction, a
jackknife over blocks of labels (:mod:`otf.analysis.blocks`), does not depend on the length of the
run. The exponential requires that the weight is not concentrated on a few labels (Zwanzig, J. Chem.
Phys. 22, 1420 (1954)); the first order requires a standard deviation of Delta below about kT.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from otf.analysis.blocks import (
    FEWEST_BLOCKS,
    Estimate,
    autocorrelation_time,
    length_of_blocks,
)
from otf.arrays import Floats, Ints
from otf.units import KELVIN

Method = Literal["exponential", "first order", "none"]

_FEWEST = 20  # labels needed for a covariance
_ENOUGH = 0.3  # effective share of the labels needed for the exponential
_MILD = 1.5  # largest standard deviation of Delta, kT, at which first order is used


@dataclass(frozen=True, eq=False)
class Reweighting:
    """Correction of the average of an observable from the model to the engine.

    Attributes
    ----------
    method, why
        Method used and the reason for it.
    shift
        To be added to the model's mean, with its error; NaN if there is no correction.
    labels, effective_labels
        Number of labels, and effective number of equal weight: (sum w)^2 / sum w^2.
    scatter_kT
        Standard deviation of Delta in units of kT.
    """

    method: Method
    why: str
    shift: Estimate
    labels: int
    effective_labels: float
    scatter_kT: float


def reweight(
    samples: Floats,
    differences: Floats,
    *,
    temperature_K: float,
    by_model: Floats | None = None,
) -> Reweighting:
    """Compute the correction from the values of an observable at the labels.

    Parameters
    ----------
    samples
        (labels, …), the observable; the engine's value if the model has its own.
    differences
        (labels,) energy of the engine minus that of the model, eV, up to a constant.
    by_model
        (labels, …), the model's value of the observable, such as its energy; by default
        ``samples``.
    """
    plain = samples if by_model is None else by_model
    n = len(samples)
    nothing = np.full(samples.shape[1:], np.nan)
    none = Estimate(nothing, nothing)
    if n < _FEWEST:
        return Reweighting("none", f"{n} labels are too few", none, n, float(n), float("nan"))
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

        shift = _jackknife(reweighted, delta)
        return Reweighting("exponential", why, shift, n, effective, scatter)
    if scatter <= _MILD:
        why = f"only {effective:.1f} of {n} labels would carry the weight"

        def first_order(rows: Ints) -> Floats:
            off = delta[rows] - delta[rows].mean()
            covariance = np.tensordot(off, samples[rows], 1) / (len(rows) - 1)
            apart: Floats = (samples[rows] - plain[rows]).mean(axis=0)
            return apart - covariance

        shift = _jackknife(first_order, delta)
        return Reweighting("first order", why, shift, n, effective, scatter)
    why = (
        f"{effective:.1f} of {n} labels would carry the weight, and model and engine differ by "
        f"{scatter:.1f} kT: sample with slhmc, or improve the model"
    )
    return Reweighting("none", why, none, n, effective, scatter)


def _jackknife(estimate: Callable[[Ints], Floats], differences: Floats) -> Estimate:
    """Estimate from all labels; its error by leaving out one block of labels at a time.

    Parameters
    ----------
    differences
        (labels,), what the length of the blocks follows from.
    """
    rows = np.arange(len(differences))
    length = length_of_blocks(autocorrelation_time(differences), len(rows))
    n_blocks = max(FEWEST_BLOCKS, len(rows) // length)
    left = np.array([estimate(np.setdiff1d(rows, b)) for b in np.array_split(rows, n_blocks)])
    spread = np.sum((left - left.mean(axis=0)) ** 2, axis=0)
    return Estimate(estimate(rows), np.sqrt((n_blocks - 1) / n_blocks * spread))

r"""Errors of means over correlated frames, from blocks as long as the correlation demands.

=====================================================================  =========================
formula                                                                code
=====================================================================  =========================
tau = 1 + 2 sum_{t=1..M} rho(t), M the least with M >= 5 tau(M)         ``autocorrelation_time``
L = 5 (tau - 1 / tau), in a short series a fifth of it but >= 2 tau     ``length_of_blocks``
s^2 = s_B^2 / (1 - (tau - 1 / tau) / (2 L)), s_B of the blocks' means    ``block_estimate``
error of the mean = s / sqrt(number of blocks)                          ``block_estimate``
=====================================================================  =========================

The integrated autocorrelation time tau is that of Goodman and Weare as emcee computes it
(Foreman-Mackey et al., PASP 125, 306 (2013), with the window of Sokal, 1989); of many components at
once the autocorrelation function rho is the mean, weighted by their variances. The variance s_B^2
of block means misses a share (tau - 1 / tau) / (2 L) that follows from exponential correlation.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from otf.arrays import Floats

FEWEST_BLOCKS = 5
"""Below this many blocks the error is not known."""

_WINDOW = 5.0  # sum the autocorrelation up to so many times its own result
_LENGTH = 5.0  # of blocks in units of tau - 1 / tau
_SHORTEST = 2.0  # the same in a short series, in units of tau
_MOST_SUMS = 320  # partial sums that are kept in memory
_COMPONENTS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Estimate:
    """A mean and its standard error, of equal shapes; the error is NaN where it is not known."""

    mean: Floats
    error: Floats


def autocorrelation_time(samples: Floats) -> float:
    """Integrated autocorrelation time of samples (n, …), in units of their distance; at least 1.

    >>> autocorrelation_time(np.random.default_rng(0).normal(size=(1000, 10))) < 1.2
    True
    """
    n = len(samples)
    flat = samples.reshape(n, -1)
    size = next_fast_len(2 * n)
    power = np.zeros(size // 2 + 1)
    for start in range(0, flat.shape[1], _COMPONENTS_AT_ONCE):
        part = flat[:, start : start + _COMPONENTS_AT_ONCE]
        power += np.sum(np.abs(rfft(part - part.mean(axis=0), size, axis=0)) ** 2, axis=1)
    covariance = irfft(power, size)[:n]
    if not covariance[0] > 0.0:  # all samples are equal, or one is not a number
        return 1.0
    tau = 2.0 * np.cumsum(covariance / covariance[0]) - 1.0
    enough = np.arange(n) >= _WINDOW * tau
    window = int(np.argmax(enough)) if enough.any() else n - 1
    return max(1.0, float(tau[window]))


def length_of_blocks(tau: float, n: int) -> int:
    """Samples in a block whose mean is nearly independent of the next one's.

    Parameters
    ----------
    tau
        Integrated autocorrelation time.
    n
        Samples there are.

    >>> length_of_blocks(1.0, 1000), length_of_blocks(20.0, 10000), length_of_blocks(20.0, 300)
    (1, 100, 60)
    """
    wanted = _LENGTH * (tau - 1.0 / tau)
    return max(1, round(min(wanted, max(_SHORTEST * tau, n / FEWEST_BLOCKS))))


def block_means(samples: Floats, length: int) -> Floats:
    """Means of contiguous blocks, without the first samples that do not fill them."""
    skipped = len(samples) % length
    means: Floats = samples[skipped:].reshape(-1, length, *samples.shape[1:]).mean(axis=1)
    return means


def block_estimate(samples: Floats) -> Estimate:
    """Mean over the first axis, its error from the scatter of contiguous blocks.

    The error is NaN where there are fewer than five blocks: the series is then shorter than ten
    autocorrelation times.

    >>> found = block_estimate(np.arange(20.0) % 2)
    >>> float(found.mean), round(float(found.error), 3)
    (0.5, 0.115)
    """
    mean, tau = samples.mean(axis=0), autocorrelation_time(samples)
    length = length_of_blocks(tau, len(samples))
    if len(samples) // length < FEWEST_BLOCKS:
        return Estimate(mean, np.full_like(mean, np.nan))
    seen = 1.0 - (tau - 1.0 / tau) / (2.0 * length)
    return Estimate(mean, over_pieces(block_means(samples, length)).error / math.sqrt(seen))


def over_pieces(samples: Floats) -> Estimate:
    """Mean over the first axis, its error from the scatter of what are independent pieces."""
    mean = samples.mean(axis=0)
    if len(samples) < 2:
        return Estimate(mean, np.full_like(mean, np.nan))
    return Estimate(mean, samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))


class BlockSum:
    """Mean, error and blocks of samples that come one after the other, in bounded memory.

    Sums of neighbouring samples are joined when there are too many of them.
    """

    def __init__(self) -> None:
        self._sums: list[Floats] = []
        self._last = 0  # samples in the last sum
        self._size = 1  # samples in every other
        self.count = 0

    def add(self, sample: Floats) -> None:
        """Add a sample."""
        if self._sums and self._last < self._size:
            self._sums[-1] = self._sums[-1] + sample
        else:
            self._sums.append(sample)
            self._last = 0
        self._last += 1
        self.count += 1
        if len(self._sums) == _MOST_SUMS and self._last == self._size:
            self._sums = [a + b for a, b in zip(self._sums[::2], self._sums[1::2], strict=True)]
            self._size = self._last = 2 * self._size

    @property
    def autocorrelation_time(self) -> float:
        """Integrated autocorrelation time, in samples; at least the samples of a sum."""
        means = self._means()
        return self._size * autocorrelation_time(means) if len(means) else 1.0

    def blocks(self, length: int) -> Floats:
        """Means (blocks, …) of contiguous blocks of about ``length`` samples.

        Raises
        ------
        ValueError
            If there are fewer than five.
        """
        means = self._means()
        joined = max(1, round(length / self._size))
        if len(means) // joined < FEWEST_BLOCKS:
            raise ValueError(
                f"{self.count} samples do not make {FEWEST_BLOCKS} independent blocks of {length}"
            )
        return block_means(means, joined)

    def estimate(self) -> Estimate:
        """Mean and error so far.

        Raises
        ------
        ValueError
            If there is no sample.
        """
        if not self.count:
            raise ValueError("there is no sample")
        total = np.sum(self._sums, axis=0) / self.count
        return Estimate(total, block_estimate(self._means()).error)

    def _means(self) -> Floats:
        """Means of the complete sums."""
        complete = self._sums if self._last == self._size else self._sums[:-1]
        return np.array(complete) / self._size

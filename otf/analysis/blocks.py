"""Errors of means over correlated frames, from blocks."""

from dataclasses import dataclass

import numpy as np

from otf.arrays import Floats

N_BLOCKS = 10
"""Blocks a series is cut into: enough for an error good to a quarter of itself."""
_MOST_SUMS = 32 * N_BLOCKS


@dataclass(frozen=True, eq=False)
class Estimate:
    """A mean and its standard error, of equal shapes; the error is NaN where it is not known."""

    mean: Floats
    error: Floats


def block_estimate(samples: Floats) -> Estimate:
    """Mean over the first axis, its error from the scatter of ten contiguous blocks.

    The error is too small where frames are correlated over more than a block, a tenth of the
    trajectory.

    >>> found = block_estimate(np.arange(20.0) % 2)
    >>> float(found.mean), float(found.error)
    (0.5, 0.0)
    """
    if len(samples) < N_BLOCKS:
        mean = samples.mean(axis=0)
        return Estimate(mean, np.full_like(mean, np.nan))
    error = _blocks(samples).std(axis=0, ddof=1) / np.sqrt(N_BLOCKS)
    return Estimate(samples.mean(axis=0), error)


def _blocks(samples: Floats) -> Floats:
    """Means of ten blocks of equal length, without the first samples that do not fill them."""
    skipped = len(samples) % N_BLOCKS
    blocks: Floats = samples[skipped:].reshape(N_BLOCKS, -1, *samples.shape[1:]).mean(axis=1)
    return blocks


def over_pieces(samples: Floats) -> Estimate:
    """Mean over the first axis, its error from the scatter of what are independent pieces."""
    mean = samples.mean(axis=0)
    if len(samples) < 2:
        return Estimate(mean, np.full_like(mean, np.nan))
    return Estimate(mean, samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))


class BlockSum:
    """The same for samples that come one after the other, in bounded memory.

    Neighbouring sums are joined when there are too many of them.
    """

    def __init__(self) -> None:
        self._sums: list[Floats] = []
        self._last = 0  # samples in the last sum
        self._size = 1  # samples in every other
        self.count = 0

    def add(self, sample: Floats) -> None:
        """Take a sample in."""
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

    def blocks(self) -> Floats:
        """Means (10, …) of contiguous blocks of equal length; the first samples may be left out.

        Raises
        ------
        ValueError
            If there are fewer samples than blocks.
        """
        complete = self._sums if self._last == self._size else self._sums[:-1]
        if len(complete) < N_BLOCKS:
            raise ValueError(f"{self.count} samples do not make {N_BLOCKS} blocks")
        return _blocks(np.array(complete) / self._size)

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
        complete = self._sums if self._last == self._size else self._sums[:-1]
        if len(complete) < N_BLOCKS:
            return Estimate(total, np.full_like(total, np.nan))
        error = block_estimate(np.array(complete) / self._size).error
        return Estimate(total, error)

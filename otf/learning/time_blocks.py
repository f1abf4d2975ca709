"""Blocks of labels that were taken close together in time."""

import math

BLOCK_FS = 20.0
"""Labels of a trajectory less than this apart are strongly correlated."""


class TimeBlocks:
    """Numbers the time blocks of labels, separately for each trajectory.

    Attributes
    ----------
    count
        Number of blocks so far.

    Examples
    --------
    >>> blocks = TimeBlocks()
    >>> [blocks.of(t) for t in (0.0, 10.0, 25.0)], blocks.of(26.0, trajectory=1), blocks.of(30.0)
    ([0, 0, 1], 2, 1)
    """

    def __init__(self) -> None:
        self.count = 0
        self._latest: dict[int, tuple[int, float]] = {}  # block and its start, by trajectory

    def of(self, time_fs: float, trajectory: int = 0) -> int:
        """Number of the block of a label; times of a trajectory never decrease."""
        block, began_fs = self._latest.get(trajectory, (-1, -math.inf))
        if time_fs - began_fs >= BLOCK_FS:
            block, self.count = self.count, self.count + 1
            self._latest[trajectory] = (block, time_fs)
        return block

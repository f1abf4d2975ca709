"""GFN2-xTB that takes as long as a DFT calculation."""

import time
from typing import Any

from tblite.ase import TBLite


class SlowXTB(TBLite):  # type: ignore[misc]  # tblite is not typed
    """GFN2-xTB that waits before each answer.

    Parameters
    ----------
    seconds
        How long it waits.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(method="GFN2-xTB", verbosity=0)
        self._seconds = seconds

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        """Fill ``results``; called by ASE."""
        time.sleep(self._seconds)
        super().calculate(*args, **kwargs)

"""Array types used in function signatures; double precision, so that resuming is exact."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Complex: TypeAlias = npt.NDArray[np.complex128]

Indices: TypeAlias = npt.NDArray[np.uint64]
"""Indices of arrays in loops where the test for negative ones costs time."""

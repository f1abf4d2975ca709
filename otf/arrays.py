"""Array types used in function signatures; double precision, so that resuming is exact."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Complex: TypeAlias = npt.NDArray[np.complex128]

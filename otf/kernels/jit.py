"""Compilation of kernels with numba."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be reordered and fused, which lets the loops vectorise; NaN and infinity are preserved
# because the callers test for them.
_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


def kernel(function: Function) -> Function:
    """Compile with numba, cached on disk, releasing the interpreter lock."""
    compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath=_FASTMATH)(function)
    return cast(Function, compiled)


def ordered_kernel(function: Function) -> Function:
    """Compile as :func:`kernel`, with sums in the order written: adding zeros changes no bit."""
    compiled = njit(cache=True, nogil=True, error_model="numpy")(function)
    return cast(Function, compiled)

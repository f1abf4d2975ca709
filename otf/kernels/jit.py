"""Compilation of kernels with numba."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be reordered and fused, which lets the loops vectorise; NaN and infinity are preserved
# because the callers test for them.
_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


OPTIONS = {"fastmath": _FASTMATH, "nogil": True, "error_model": "numpy"}
"""Options of the compiler for every kernel."""
INNER_OPTIONS = OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Those of kernels that only kernels call: a wrapper for Python takes long to compile."""


def kernel(function: Function) -> Function:
    """Compile with numba, cached on disk, releasing the interpreter lock."""
    return _compiled(function, OPTIONS)


def inner_kernel(function: Function) -> Function:
    """Compile as :func:`kernel`, for calls by other kernels only."""
    return _compiled(function, INNER_OPTIONS)


def inlined(function: Function) -> Function:
    """Compile as :func:`kernel`, into every kernel that calls it.

    For functions called for every atom: a call passes each member of a tuple of arrays.
    """
    return _compiled(function, OPTIONS | {"inline": "always"})


def ordered_kernel(function: Function) -> Function:
    """Compile as :func:`kernel`, with sums in the order written: adding zeros changes no bit."""
    return _compiled(function, OPTIONS | {"fastmath": False})


def _compiled(function: Function, options: dict[str, Any]) -> Function:
    def compiled(*, cache: bool) -> Function:
        made = njit(cache=cache, **options)(function)
        return cast(Function, made)

    try:
        return compiled(cache=True)
    except RuntimeError:  # neither the package nor the home directory can be written
        return compiled(cache=False)

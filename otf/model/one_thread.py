"""Linear algebra that gives the same bits on any number of cores."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy  # noqa: F401  the controller below knows the libraries that are loaded when it is made
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController

Function = TypeVar("Function", bound=Callable[..., Any])
_BLAS = ThreadpoolController()


def in_one_thread(function: Function) -> Function:
    """Keep BLAS to one thread during a call.

    With another number it would sum in another order, and a run that is resumed on another number
    of cores would take another course.
    """
    return cast(Function, _BLAS.wrap(limits=1, user_api="blas")(function))

"""Linear algebra with bitwise identical results on any number of cores."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy  # noqa: F401  the controller below finds only libraries that are already loaded
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController

Function = TypeVar("Function", bound=Callable[..., Any])


class _OneThread:
    """Limits BLAS to one thread while any thread is inside: the limit is per process."""

    def __init__(self) -> None:
        self._blas = ThreadpoolController()
        self._lock = threading.Lock()
        self._inside = 0
        self._limiter: Any = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._take_control()
                self._limiter = self._blas.limit(limits=1, user_api="blas")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._take_control()
                    self._limiter.restore_original_limits()

    def _take_control(self) -> None:
        """Let any thread set limits; since threadpoolctl 3.8 only the first one may."""
        for library in self._blas.lib_controllers:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)


_one_thread = _OneThread()


def in_one_thread(function: Function) -> Function:
    """Keep BLAS to one thread during a call.

    Another number of threads would change the order of sums, and a run resumed on another number of
    cores would diverge.
    """

    @functools.wraps(function)
    def limited(*arguments: Any, **options: Any) -> Any:
        with _one_thread():
            return function(*arguments, **options)

    return cast(Function, limited)

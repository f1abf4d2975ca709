"""BLAS limited to one thread while any caller needs it."""

import threading
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from otf.model.one_thread import in_one_thread


def blas_threads() -> list[int]:
    """Threads of the BLAS libraries of NumPy and SciPy; others are not limited by otf."""
    blas = ThreadpoolController().select(user_api="blas").info()
    wheels = ("numpy.libs", "scipy.libs")
    ours = [b for b in blas if Path(b["filepath"]).parent.name in wheels]
    return [library["num_threads"] for library in ours]


def test_every_thread_is_limited():
    before, seen = blas_threads(), []

    @in_one_thread
    def look() -> None:
        seen.append(set(blas_threads()))

    look()
    for _ in range(2):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        look()
    assert seen == 5 * [{1}]
    assert blas_threads() == before


def test_the_first_to_leave_does_not_end_it_for_the_others():
    before, inside, left, seen = blas_threads(), threading.Event(), threading.Event(), []

    @in_one_thread
    def long() -> None:
        inside.set()
        left.wait(10.0)
        seen.extend(blas_threads())

    @in_one_thread
    def short() -> float:
        inside.wait(10.0)
        return float(np.ones(3) @ np.ones(3))

    thread = threading.Thread(target=long)
    thread.start()
    assert short() == 3.0
    left.set()
    thread.join()
    assert seen
    assert set(seen) == {1}
    assert blas_threads() == before

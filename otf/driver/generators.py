"""Consumption of generators that return a value."""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar, cast

_Y = TypeVar("_Y")
_R = TypeVar("_R")


def exhausted(
    generator: Generator[_Y, None, _R], watch: Callable[[_Y], None] = lambda _: None
) -> _R:
    """Exhaust a generator and return its value, calling ``watch`` with each item it yields.

    >>> def count():
    ...     yield 1
    ...     return "done"
    >>> exhausted(count(), print)
    1
    'done'
    """
    with closing(generator):
        while True:
            try:
                item = next(generator)
            except StopIteration as end:
                return cast(_R, end.value)
            watch(item)

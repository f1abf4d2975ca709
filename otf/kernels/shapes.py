"""Sizes of a descriptor as a type, for kernels that are compiled for them.

A page holds numbers of the neighbours of one species, a row for each quantity and a column for each
neighbour. Columns come in groups of :data:`LANES`, the last filled with neighbours that contribute
nothing.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

from numba.extending import overload

from otf.kernels.jit import INNER_OPTIONS
from otf.kernels.radial import expm1

Function = TypeVar("Function", bound=Callable[..., None])

LANES = 4
"""Neighbours that are processed together: the doubles of a 256-bit vector register."""

_NARROWEST = 128
_PAD = 8  # rows at a distance of a power of two would compete for the same lines of the cache


class Shape(NamedTuple):
    """Sizes of a descriptor as lengths of tuples, which are part of the type for numba.

    Attributes
    ----------
    two, three
        Radial polynomials of pairs and of triples.
    degrees
        l_max + 1.
    width
        Width of a page: one for 128 neighbours, two for 256, and so on.
    """

    two: tuple[tuple[()], ...]
    three: tuple[tuple[()], ...]
    degrees: tuple[tuple[()], ...]
    width: tuple[tuple[()], ...]


class Rows(NamedTuple):
    """Sizes as numbers, and the first row of each quantity in a page."""

    n_two: int
    n_three: int
    n_lm: int
    width: int

    @property
    def l_max(self) -> int:
        """Highest angular momentum."""
        return math.isqrt(self.n_lm) - 1

    @property
    def three(self) -> int:
        """R_n of triples."""
        return 11

    @property
    def three_slope(self) -> int:
        """dR_n/dr of triples."""
        return self.three + self.n_three

    @property
    def harmonic(self) -> int:
        """Y_lm."""
        return self.three_slope + self.n_three

    @property
    def weighted(self) -> int:
        """sum_n dE/dA_{n,lm} R_n."""
        return self.harmonic + self.n_lm

    @property
    def two_slope(self) -> int:
        """dR_k/dr of pairs."""
        return self.weighted + self.n_lm

    @property
    def total(self) -> int:
        """Number of rows."""
        return self.two_slope + self.n_two


X, Y, Z, DISTANCE, INVERSE, FX, FY, FZ, COORDINATE, COORDINATE_SLOPE, RADIAL = range(11)
"""Rows that every page has: the unit vector, the distance and its inverse, dE/dr_j, the distance
coordinate and its slope, and the derivative along the unit vector."""


def make_shape(n_two: int, n_three: int, degrees: int, most_neighbours: int) -> Shape:
    """The shape of a descriptor, with pages of at least ``most_neighbours`` columns."""
    doublings = 1
    while (_NARROWEST << doublings - 1) < most_neighbours:
        doublings += 1
    return Shape(((),) * n_two, ((),) * n_three, ((),) * degrees, ((),) * doublings)


def rows_of(shape: Any) -> Rows:
    """The rows of a page, from a shape or its numba type."""
    two, three, degrees, doublings = (len(size) for size in shape)
    return Rows(two, three, degrees * degrees, (_NARROWEST << doublings - 1) + _PAD)


_TEXTS: dict[Callable[..., None], Callable[[Rows], list[str]]] = {}


def text_of(function: Callable[..., None], rows: Rows) -> str:
    """The Python text of a kernel that is :func:`written_out`, for pages with these rows."""
    arguments = ", ".join(inspect.signature(function).parameters)
    body = "".join(f"    {line}\n" for line in _TEXTS[function](rows))
    return f"def {function.__name__}({arguments}):\n{body}"


def written_out(text: Callable[[Rows], list[str]]) -> Callable[[Function], Function]:
    """A kernel with the signature of the decorated function, and a body for each shape.

    Its first argument is the :class:`Shape`. Only kernels can call it.
    """

    def decorate(function: Function) -> Function:
        _TEXTS[function] = text

        def of_shape(shape: Any, *_: Any) -> Callable[..., None]:
            made: dict[str, Any] = {"expm1": expm1, "sqrt": math.sqrt}
            exec(text_of(function, rows_of(shape)), made)
            return cast(Callable[..., None], made[function.__name__])

        overload(function, jit_options=INNER_OPTIONS, strict=False)(of_shape)
        return function

    return decorate

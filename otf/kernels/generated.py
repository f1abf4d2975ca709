r"""Innermost loops of the force kernel, written out for the sizes of a descriptor.

Each function below has two forms: what it does, as a Python function without a body, and the text
of its loops, in which the polynomials are straight lines of arithmetic and the sizes are literal
numbers. Numba compiles the text when a kernel calls the function with a shape of these sizes. The
compiler then vectorises over neighbours; it cannot do so where the numbers of terms and the
distances between rows are only known at run time.

The functions work on pages of neighbours (:mod:`otf.kernels.shapes`), and their counts are whole
groups of :data:`otf.kernels.shapes.LANES` columns.

==================================================  =============================
formula                                             code
==================================================  =============================
V_{s,k} = sum_j R_k                                 :func:`pair_features`
sum_j R_n Y_lm                                      :func:`page_moments`
V_{cc'l} = sum_m A_{c,lm} A_{c',lm}                 :func:`spectrum`
dE/dA_{c,lm} = sum_{c'} dE/dV_{cc'l} A_{c',lm}      :func:`spectrum_adjoint`
dE/dr_j                                             :func:`pair_gradients`
==================================================  =============================

Sources: those of :mod:`otf.kernels.radial`, :mod:`otf.kernels.harmonics` and
:mod:`otf.kernels.descriptor`.
"""

from collections.abc import Iterator

from otf.arrays import Floats
from otf.kernels.harmonics import normalisation
from otf.kernels.radial import recursion_table
from otf.kernels.shapes import (
    COORDINATE,
    COORDINATE_SLOPE,
    DISTANCE,
    FX,
    INVERSE,
    RADIAL,
    Rows,
    Shape,
    X,
    Y,
    Z,
    written_out,
)

_AXES = (("x", X), ("y", Y), ("z", Z))


def _at(rows: Rows, row: int) -> str:
    """The number in a row, in column j."""
    return f"page[{row * rows.width} + j]"


def _of_lm(rows: Rows, first: int) -> str:
    """The same for the rows of all lm, from ``first``."""
    return f"page[({first} + lm) * {rows.width} + j]"


def _loop(body: list[str], *, over: str = "j in range(count)") -> list[str]:
    return [f"for {over}:", *(f"    {line}" for line in body)]


def _units(rows: Rows) -> list[str]:
    """Distances, their inverses, and unit vectors in place of the vectors."""
    return _loop(
        [
            *(f"{name} = {_at(rows, row)}" for name, row in _AXES),
            "r = sqrt(x * x + y * y + z * z)",
            f"{_at(rows, DISTANCE)} = r",
            f"{_at(rows, INVERSE)} = 1.0 / r",
            *(f"{_at(rows, row)} = {name} / r" for name, row in _AXES),
        ]
    )


def _coordinate(rows: Rows) -> list[str]:
    """The distance coordinate of a cutoff, and its slope."""
    s = f"s = ({_at(rows, DISTANCE)} - r_min) * inverse_range"
    x, slope = _at(rows, COORDINATE), _at(rows, COORDINATE_SLOPE)
    exponential = [
        s,
        "fallen = expm1(-decay * s)",
        f"{x} = -fallen * scale",
        f"{slope} = steepest * (1.0 + fallen)",
    ]
    return [
        "inverse_range = 1.0 / (r_cut - r_min)",
        "if decay == 0.0:",
        *(f"    {line}" for line in _loop([s, f"{x} = s", f"{slope} = inverse_range"])),
        "else:",
        "    scale = -1.0 / expm1(-decay)",
        "    steepest = decay * scale * inverse_range",
        *(f"    {line}" for line in _loop(exponential)),
    ]


def _radial(rows: Rows, n: int, value: int | None, slope: int) -> list[str]:
    """R_k and dR_k/dr; without a row for the values, they are added to a0, a1, ..."""
    body = [
        f"x = {_at(rows, COORDINATE)}",
        "t = 2.0 * x - 1.0",
        "u = 1.0 - x if x < 1.0 else 0.0",
        f"v = u * u * {_at(rows, COORDINATE_SLOPE)}",
        "cube, fall, rise = u * u * u, -3.0 * v, 2.0 * u * v",
        "p0, dp0 = 1.0, 0.0",
    ]
    for k, (a, b, c, norm) in enumerate(recursion_table(n).tolist()):
        if k == 1:
            body += [f"p1, dp1 = {a!r} * t + {b!r}, {a!r}"]
        elif k > 1:
            body += [
                f"s = {a!r} * t + {b!r}",
                f"p{k} = s * p{k - 1} - {c!r} * p{k - 2}",
                f"dp{k} = {a!r} * p{k - 1} + s * dp{k - 1} - {c!r} * dp{k - 2}",
            ]
        term = f"{norm!r} * cube * p{k}"
        body += [
            f"a{k} += {term}" if value is None else f"{_at(rows, value + k)} = {term}",
            f"{_at(rows, slope + k)} = {norm!r} * (fall * p{k} + rise * dp{k})",
        ]
    return _loop(body)


def _legendre(l_max: int) -> Iterator[str]:
    """Q_l^m and (x + iy)^m of a unit vector."""
    yield "c0, s0 = 1.0, 0.0"
    first = 1.0
    for m in range(l_max + 1):
        if m == 1:
            yield "c1, s1 = x, y"
        elif m > 1:
            yield f"c{m}, s{m} = x * c{m - 1} - y * s{m - 1}, x * s{m - 1} + y * c{m - 1}"
        first *= max(2 * m - 1, 1)
        yield f"q{m}_{m} = {first!r}"
        if m < l_max:
            yield f"q{m + 1}_{m} = {(2 * m + 1) * first!r} * z"
        for degree in range(m + 2, l_max + 1):
            a, b = (2 * degree - 1) / (degree - m), (degree + m - 1) / (degree - m)
            yield f"q{degree}_{m} = {a!r} * z * q{degree - 1}_{m} - {b!r} * q{degree - 2}_{m}"


def _degrees(rows: Rows) -> Iterator[tuple[int, int, int, float]]:
    """l, m, index of (l, m) and norm, for m >= 0."""
    norm = normalisation(rows.l_max)
    for degree in range(rows.l_max + 1):
        for m in range(degree + 1):
            yield degree, m, degree * degree + degree + m, float(norm[degree, m])


def _harmonics(rows: Rows) -> list[str]:
    body = [*(f"{name} = {_at(rows, row)}" for name, row in _AXES), *_legendre(rows.l_max)]
    for degree, m, plus, norm in _degrees(rows):
        body += [
            f"v = {norm!r} * q{degree}_{m}",
            f"{_at(rows, rows.harmonic + plus)} = v * c{m}",
        ]
        if m > 0:
            body += [f"{_at(rows, rows.harmonic + plus - 2 * m)} = v * s{m}"]
    return _loop(body)


def _sums(rows: Rows) -> list[str]:
    """Moments of the neighbours of the page."""
    n = range(rows.n_three)
    body = [f"h = {_of_lm(rows, rows.harmonic)}"]
    body += [f"a{k} += {_at(rows, rows.three + k)} * h" for k in n]
    return _loop(
        [
            *(f"a{k} = 0.0" for k in n),
            *_loop(body),
            *(f"moments[{k * rows.n_lm} + lm] = a{k}" for k in n),
        ],
        over=f"lm in range({rows.n_lm})",
    )


def _weights(rows: Rows) -> list[str]:
    """Sums over n of the adjoint with R_n, and with R_n' Y_lm, added to the radial derivative."""
    n = range(rows.n_three)
    values = " + ".join(f"a{k} * {_at(rows, rows.three + k)}" for k in n)
    slopes = " + ".join(f"a{k} * {_at(rows, rows.three_slope + k)}" for k in n)
    body = [
        f"{_of_lm(rows, rows.weighted)} = {values}",
        f"{_at(rows, RADIAL)} += {_of_lm(rows, rows.harmonic)} * ({slopes})",
    ]
    weights = [f"a{k} = adjoint[{k * rows.n_lm} + lm]" for k in n]
    return _loop([*weights, *_loop(body)], over=f"lm in range({rows.n_lm})")


def _across(rows: Rows) -> list[str]:
    """dE/dr_j through the angles, from the weights of the harmonics."""
    body = [*(f"{name} = {_at(rows, row)}" for name, row in _AXES), *_legendre(rows.l_max)]
    body += ["tx, ty, tz = 0.0, 0.0, 0.0"]
    for degree, m, plus, norm in _degrees(rows):
        if degree == 0:
            continue
        body += [f"plus = {norm!r} * {_at(rows, rows.weighted + plus)}"]
        along = "plus"
        if m > 0:
            body += [
                f"minus = {norm!r} * {_at(rows, rows.weighted + plus - 2 * m)}",
                f"v = {float(m)!r} * q{degree}_{m}",
                f"tx += v * (plus * c{m - 1} + minus * s{m - 1})",
                f"ty += v * (minus * c{m - 1} - plus * s{m - 1})",
            ]
            along = f"plus * c{m} + minus * s{m}"
        if m < degree:
            body += [f"u = {along}", f"tz += {float(degree + m)!r} * q{degree - 1}_{m} * u"]
        if m + 1 < degree:
            body += [f"u *= q{degree - 1}_{m + 1}", "tx -= x * u", "ty -= y * u"]
    body += [
        # The gradient of Y_lm(r/|r|) is that of the solid harmonic without its radial part.
        f"inverse = {_at(rows, INVERSE)}",
        "turn = (x * tx + y * ty + z * tz) * inverse",
        *(f"{_at(rows, FX + a)} += t{xyz} * inverse - turn * {xyz}" for a, xyz in enumerate("xyz")),
    ]
    return _loop(body)


def _pair_features(rows: Rows) -> list[str]:
    zeros = [f"a{k} = 0.0" for k in range(rows.n_two)]
    sums = [f"features[first + {k}] = a{k}" for k in range(rows.n_two)]
    radial = _radial(rows, rows.n_two, None, rows.two_slope)
    return [*_units(rows), *_coordinate(rows), *zeros, *radial, *sums]


@written_out(_pair_features)
def pair_features(
    shape: Shape,
    count: int,
    page: Floats,
    r_min: float,
    r_cut: float,
    decay: float,
    features: Floats,
    first: int,
) -> None:
    """Two-body features, from ``first``, of the vectors in the page, which become unit vectors."""


def _page_moments(rows: Rows) -> list[str]:
    radial = _radial(rows, rows.n_three, rows.three, rows.three_slope)
    return [*_coordinate(rows), *radial, *_harmonics(rows), *_sums(rows)]


@written_out(_page_moments)
def page_moments(
    shape: Shape,
    count: int,
    page: Floats,
    r_min: float,
    r_cut: float,
    decay: float,
    moments: Floats,
) -> None:
    """Moments sum_j R_n Y_lm (n_three * n_lm,) of the unit vectors and distances in the page."""


def _spectrum(rows: Rows) -> list[str]:
    body = [f"a, b = c * {rows.n_lm}, other * {rows.n_lm}"]
    for degree in range(rows.l_max + 1):
        span = range(degree * degree, (degree + 1) * (degree + 1))
        total = " + ".join(f"moments[a + {lm}] * moments[b + {lm}]" for lm in span)
        body += [f"features[f + {degree}] = {total}"]
    body += [f"f += {rows.l_max + 1}"]
    pairs = _loop(_loop(body, over="other in range(c, channels)"), over="c in range(channels)")
    return ["f = first", *pairs]


@written_out(_spectrum)
def spectrum(shape: Shape, channels: int, moments: Floats, features: Floats, first: int) -> None:
    """Three-body features, from ``first``, of the moments (channels * n_lm,)."""


def _spectrum_adjoint(rows: Rows) -> list[str]:
    degrees, body = rows.l_max + 1, [f"a = c * {rows.n_lm}"]
    for degree in range(degrees):
        lms = range(degree * degree, (degree + 1) * (degree + 1))
        add = ["g = gradient[f]", *(f"a{lm} += g * moments[b + {lm}]" for lm in lms)]
        # Pairs (other, c), then (c, other), of which (c, c) counts twice.
        body += [
            *(f"a{lm} = 0.0" for lm in lms),
            f"b, f = 0, first + c * {degrees} + {degree}",
            *_loop(
                [*add, f"b += {rows.n_lm}", f"f += (channels - other - 1) * {degrees}"],
                over="other in range(c)",
            ),
            *add,
            *_loop(
                [*add, f"b += {rows.n_lm}", f"f += {degrees}"], over="other in range(c, channels)"
            ),
            *(f"adjoint[a + {lm}] = a{lm}" for lm in lms),
        ]
    return _loop(body, over="c in range(channels)")


@written_out(_spectrum_adjoint)
def spectrum_adjoint(
    shape: Shape, channels: int, moments: Floats, gradient: Floats, first: int, adjoint: Floats
) -> None:
    """Derivatives by the moments, from those by the three-body features, from ``first``."""


def _pair_gradients(rows: Rows) -> list[str]:
    n = range(rows.n_two)
    total = " + ".join(f"w{k} * {_at(rows, rows.two_slope + k)}" for k in n)
    along = [f"{_at(rows, FX + a)} += {_at(rows, RADIAL)} * {_at(rows, X + a)}" for a in range(3)]
    return [
        *(f"w{k} = gradient[first + {k}]" for k in n),
        *_loop([f"{_at(rows, RADIAL)} = {total}"], over="j in range(every)"),
        *_loop([f"{_at(rows, FX + a)} = 0.0" for a in range(3)], over="j in range(every)"),
        *_weights(rows),
        *_across(rows),
        *_loop(along, over="j in range(every)"),
    ]


@written_out(_pair_gradients)
def pair_gradients(
    shape: Shape,
    every: int,
    count: int,
    page: Floats,
    gradient: Floats,
    first: int,
    adjoint: Floats,
) -> None:
    """dE/dr_j of the neighbours of the page.

    Parameters
    ----------
    every, count
        Columns, and those within the cutoff of triples.
    gradient, first
        Derivatives by the features, the two-body ones of this species from ``first``.
    adjoint
        (n_three * n_lm,) derivatives by the moments of this species.
    """


def _add_virial(rows: Rows) -> list[str]:
    parts = [(a, b) for a in range(3) for b in range(3)]
    body = [
        f"r = {_at(rows, DISTANCE)}",
        *(f"r{b} = r * {_at(rows, X + b)}" for b in range(3)),
        *(f"v{a}{b} += {_at(rows, FX + a)} * r{b}" for a, b in parts),
    ]
    return [
        *(f"v{a}{b} = 0.0" for a, b in parts),
        *_loop(body),
        *(f"virial[{a}, {b}] += v{a}{b}" for a, b in parts),
    ]


@written_out(_add_virial)
def add_virial(shape: Shape, count: int, page: Floats, virial: Floats) -> None:
    """Add sum_j dE/dr_j r_j to the virial (3, 3)."""

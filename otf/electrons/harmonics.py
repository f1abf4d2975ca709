r"""Rotations and couplings of real spherical harmonics.

=====================================================  ==========================
formula                                                code
=====================================================  ==========================
Y_lm as in :mod:`otf.orbitals.block_matrices`          :func:`harmonics`
D^l with Y_l(R r) = D^l(R) Y_l(r)                      :func:`rotation_matrices`
C^{lm}_{l1 m1 l2 m2} for real harmonics, orthonormal   :func:`coupling`
=====================================================  ==========================

Sources: Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum (1988), 8.2.1
(Clebsch-Gordan coefficients); the rest follows from the values of the harmonics.
"""

from functools import cache
from math import factorial, sqrt

import numpy as np
import numpy.typing as npt

from otf.arrays import Floats
from otf.kernels.harmonics import normalisation, solid_harmonics
from otf.kernels.jit import kernel

_POINTS = np.random.default_rng(1).normal(size=(80, 3))
_POINTS /= np.linalg.norm(_POINTS, axis=1)[:, None]


def harmonics(directions: Floats, l_max: int) -> Floats:
    """Y_lm of unit vectors (…, 3) as (…, (l_max + 1)**2), index l*l + l + m."""
    flat = np.ascontiguousarray(directions.reshape(-1, 3))
    out = np.empty((len(flat), (l_max + 1) ** 2))
    _harmonics(flat, normalisation(l_max), out)
    return out.reshape(*directions.shape[:-1], out.shape[1])


@kernel
def _harmonics(directions: Floats, norm: Floats, out: Floats) -> None:
    q = np.zeros((norm.shape[0] + 1, norm.shape[0] + 1))
    gradient = np.zeros((out.shape[1], 3))
    for i in range(len(directions)):
        x, y, z = directions[i]
        solid_harmonics(x, y, z, norm, q, out[i], gradient)


def rotation_matrices(rotations: Floats, l_max: int) -> list[Floats]:
    """D^l of rotations (B, 3, 3), proper or not, for l = 0 … l_max, each (B, 2l + 1, 2l + 1)."""
    before = harmonics(_POINTS, l_max)
    after = harmonics(np.einsum("bij,kj->bki", rotations, _POINTS), l_max)
    out = []
    for degree in range(l_max + 1):
        span = slice(degree * degree, (degree + 1) ** 2)
        inverse = np.linalg.pinv(before[:, span])
        out.append(np.einsum("mk,bkn->bnm", inverse, after[:, :, span], optimize=True))
    return out


@cache
def coupling(l1: int, l2: int, degree: int) -> Floats:
    """Coefficients (2l + 1, 2l1 + 1, 2l2 + 1) that couple two tensors to one of this degree.

    Their rows are orthonormal. The result is a pseudo-tensor if l1 + l2 + l is odd.
    """
    standard = np.zeros((2 * degree + 1, 2 * l1 + 1, 2 * l2 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= degree:
                value = _clebsch_gordan(l1, m1, l2, m2, degree)
                standard[m1 + m2 + degree, m1 + l1, m2 + l2] = value
    real = np.einsum(
        "am,mpq,bp,cq->abc",
        _from_standard(degree),
        standard,
        _from_standard(l1).conj(),
        _from_standard(l2).conj(),
    )
    part: Floats = real.real if (l1 + l2 + degree) % 2 == 0 else real.imag
    return part


def _clebsch_gordan(l1: int, m1: int, l2: int, m2: int, degree: int) -> float:
    """<l1 m1 l2 m2 | l m1+m2>, by Racah's formula."""
    m = m1 + m2
    f = factorial
    triangle = f(l1 + l2 - degree) * f(l1 - l2 + degree) * f(degree - l1 + l2)
    front = (2 * degree + 1) * triangle / f(l1 + l2 + degree + 1)
    front *= f(degree + m) * f(degree - m) * f(l1 - m1) * f(l1 + m1) * f(l2 - m2) * f(l2 + m2)
    total = 0.0
    for k in range(l1 + l2 - degree + 1):
        parts = (
            k, l1 + l2 - degree - k, l1 - m1 - k, l2 + m2 - k, degree - l2 + m1 + k,
            degree - l1 - m2 + k,
        )  # fmt: skip
        if min(parts) >= 0:
            total += (-1) ** k / np.prod([float(f(p)) for p in parts])
    return sqrt(front) * float(total)


def _from_standard(degree: int) -> npt.NDArray[np.complex128]:
    """Real harmonics (rows) in terms of complex ones with Condon-Shortley phase (columns)."""
    out = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=complex)
    out[degree, degree] = 1.0
    for m in range(1, degree + 1):
        sign = (-1) ** m
        out[degree + m, [degree + m, degree - m]] = sign / sqrt(2), 1 / sqrt(2)
        out[degree - m, [degree + m, degree - m]] = sign / (1j * sqrt(2)), -1 / (1j * sqrt(2))
    return out

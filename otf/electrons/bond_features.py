r"""Features of a pair of atoms, for the matrix block between them, in the frame of the bond.

With the bond along z the remaining symmetry is O(2), whose representations are complex numbers of
weight M: a rotation multiplies them by :math:`e^{iM\phi}`, a reflection conjugates them. So no
Clebsch-Gordan coefficients are needed, and all coefficients are real.

==================================================  ==================================
formula                                             code
==================================================  ==================================
(c + is)_1 (c - is)_2, weight m1 - m2;              :func:`to_weights`
(c + is)_1 (c + is)_2, weight m1 + m2
H from these, the inverse                           :func:`from_weights`
g_k(r) {1, Z_m, Z_m Z_m'^(*)}                       :meth:`BondFeatures.of`
==================================================  ==================================

Here c and s are the orbitals with cos(m phi) and sin(m phi), and :math:`Z_{Znlm} = A_{Znlm} + i
A_{Znl-m}` are the moments of one atom of the bond without the other, in the frame of the bond. At
weight 0 real and imaginary parts are even and odd under reflection, and are fitted separately.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from otf.arrays import Complex, Floats, Ints

Weight = int | Literal["odd"]
"""M, where 0 is even under reflection; ``"odd"`` is weight 0, odd under reflection."""


def frames(vectors: Floats) -> Floats:
    """Rotations (B, 3, 3) that align each vector with the z axis."""
    z = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    least = np.eye(3)[np.argmin(np.abs(z), axis=1)]
    x = least - np.einsum("bi,bi->b", least, z)[:, None] * z
    x /= np.linalg.norm(x, axis=1)[:, None]
    return np.stack([x, np.cross(z, x), z], axis=1)


def turned(
    blocks: Floats,
    rotations: list[Floats],
    rows: tuple[int, ...],
    columns: tuple[int, ...],
    *,
    back: bool = False,
) -> Floats:
    """Rotate blocks (B, orbitals, orbitals) by D^l, or back by the inverse."""
    left, right = _block_diagonal(rotations, rows), _block_diagonal(rotations, columns)
    if back:
        left, right = left.transpose(0, 2, 1), right.transpose(0, 2, 1)
    return np.asarray(left @ blocks @ right.transpose(0, 2, 1))


def _block_diagonal(rotations: list[Floats], shells: tuple[int, ...]) -> Floats:
    size = sum(2 * degree + 1 for degree in shells)
    out = np.zeros((len(rotations[0]), size, size))
    at = 0
    for degree in shells:
        span = slice(at, at + 2 * degree + 1)
        out[:, span, span] = rotations[degree]
        at = span.stop
    return out


@cache
def _transformation(
    rows: tuple[int, ...], columns: tuple[int, ...]
) -> tuple[list[tuple[Weight, bool]], Floats, Floats]:
    """Transformation of a flattened block to real and imaginary parts, and its inverse.

    Returns
    -------
    kinds
        Weight of each part and whether it is imaginary.
    forward, backward
        Matrices (parts, elements) and (elements, parts).
    """
    orbitals = [[(d, m) for d in shells for m in range(-d, d + 1)] for shells in (rows, columns)]
    width = len(orbitals[1])
    starts = [np.cumsum([0, *(2 * d + 1 for d in shells)]) for shells in (rows, columns)]
    kinds: list[tuple[Weight, bool]] = []
    forward: list[Floats] = []

    def add(weight: Weight, imaginary: bool, elements: dict[tuple[int, int], float]) -> None:
        row = np.zeros(len(orbitals[0]) * width)
        for (p, q), value in elements.items():
            row[p * width + q] = value
        kinds.append((weight, imaginary))
        forward.append(row)

    for a, l1 in zip(starts[0], rows, strict=False):
        for b, l2 in zip(starts[1], columns, strict=False):
            for m1 in range(l1 + 1):
                for m2 in range(l2 + 1):
                    c1, s1 = int(a) + l1 + m1, int(a) + l1 - m1
                    c2, s2 = int(b) + l2 + m2, int(b) + l2 - m2
                    if m1 == 0 and m2 == 0:
                        add(0, False, {(c1, c2): 1.0})
                    elif m1 == 0:
                        add(m2, False, {(c1, c2): 1.0})
                        add(m2, True, {(c1, s2): 1.0})
                    elif m2 == 0:
                        add(m1, False, {(c1, c2): 1.0})
                        add(m1, True, {(s1, c2): 1.0})
                    else:
                        sign = 1.0 if m1 >= m2 else -1.0
                        low: Weight = abs(m1 - m2)
                        add(low, False, {(c1, c2): 1.0, (s1, s2): 1.0})
                        add(low or "odd", True, {(s1, c2): sign, (c1, s2): -sign})
                        add(m1 + m2, False, {(c1, c2): 1.0, (s1, s2): -1.0})
                        add(m1 + m2, True, {(s1, c2): 1.0, (c1, s2): 1.0})
    matrix = np.array(forward)
    return kinds, matrix, np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def to_weights(
    blocks: Floats, rows: tuple[int, ...], columns: tuple[int, ...]
) -> dict[Weight, Complex]:
    """Blocks (B, orbitals, orbitals) in the bond frame as complex numbers (B, count) by weight."""
    kinds, forward, _ = _transformation(rows, columns)
    flat = blocks.reshape(len(blocks), -1) @ forward.T
    out: dict[Weight, Complex] = {}
    for weight in {w for w, _ in kinds}:
        real = [k for k, kind in enumerate(kinds) if kind == (weight, False)]
        imaginary = [k for k, kind in enumerate(kinds) if kind == (weight, True)]
        if weight == 0:
            out[weight] = flat[:, real].astype(np.complex128)
        elif weight == "odd":
            out[weight] = np.asarray(1j * flat[:, imaginary])
        else:
            out[weight] = np.asarray(flat[:, real] + 1j * flat[:, imaginary])
    return out


def from_weights(
    numbers: Mapping[Weight, Complex], rows: tuple[int, ...], columns: tuple[int, ...]
) -> Floats:
    """Inverse of :func:`to_weights`."""
    kinds, _, backward = _transformation(rows, columns)
    n = len(next(iter(numbers.values())))
    flat = np.zeros((n, len(kinds)))
    for weight, values in numbers.items():
        real = [k for k, kind in enumerate(kinds) if kind == (weight, False)]
        imaginary = [k for k, kind in enumerate(kinds) if kind == (weight, True)]
        if real:
            flat[:, real] = values.real
        if imaginary:
            flat[:, imaginary] = values.imag
    size = sum(2 * d + 1 for d in rows)
    return np.asarray((flat @ backward.T).reshape(n, size, -1))


@dataclass(frozen=True)
class _Plan:
    """The features of a weight: indices of radial functions and of moments.

    In ``conjugated`` the second moment of each product is complex conjugated.
    """

    bare: Ints
    single: tuple[Ints, Ints]
    double: tuple[Ints, Ints, Ints]
    conjugated: tuple[Ints, Ints, Ints]


EACH_MOMENT = 2
"""Degrees added for each moment in a product, so that low body orders come first."""


class BondFeatures:
    """Features of bonds for every weight.

    Parameters
    ----------
    n_bond
        Number of radial functions of the bond.
    n_species, n_radial, l_max
        Sizes of the moments.
    budget
        Maximum sum of k + n + l of a product.
    """

    def __init__(self, n_bond: int, n_species: int, n_radial: int, l_max: int, budget: int) -> None:
        self._n_bond = n_bond
        self._l_max = l_max
        self._budget = budget
        channels = [
            (n, degree)
            for _ in range(n_species)
            for n in range(n_radial)
            for degree in range(l_max + 1)
        ]
        ends = [(n, d, m) for _ in range(2) for n, d in channels for m in range(d + 1)]
        self._cost = np.array([n + d for n, d, _ in ends])
        self._m = np.array([m for _, _, m in ends])
        self._plans: dict[Weight, _Plan] = {}

    def of(self, radial: Floats, moments: Complex, weight: Weight) -> Complex:
        """Features (B, count); only the real part is used for 0, the imaginary part for ``"odd"``.

        Parameters
        ----------
        radial
            (B, n_bond).
        moments
            (B, ends x species x n x l x m) from :func:`moments_in_frame`.
        """
        if weight not in self._plans:
            self._plans[weight] = self._plan(weight)
        plan = self._plans[weight]
        columns = [radial[:, plan.bare].astype(complex)]
        k, a = plan.single
        columns.append(radial[:, k] * moments[:, a])
        k, a, b = plan.double
        columns.append(radial[:, k] * (moments[:, a] * moments[:, b]))
        k, a, b = plan.conjugated
        columns.append(radial[:, k] * (moments[:, a] * moments[:, b].conj()))
        return np.concatenate(columns, axis=1)

    def degrees(self, weight: Weight) -> Ints:
        """Degree of each feature: the sum of k + n + l, plus :data:`EACH_MOMENT` per moment."""
        plan = self._plan(weight)
        out = [plan.bare]
        for radial, *moments in (plan.single, plan.double, plan.conjugated):
            out.append(radial + sum(self._cost[moment] + EACH_MOMENT for moment in moments))
        return np.concatenate(out)

    def _plan(self, weight: Weight) -> _Plan:
        total = 0 if weight == "odd" else weight
        even = weight == 0
        ks = np.arange(self._n_bond)
        bare = ks[ks <= self._budget] if even else ks[:0]
        n = len(self._m)
        single = np.array(
            [
                (k, a)
                for a in range(n)
                if self._m[a] == total and weight != "odd"
                for k in ks
                if k + self._cost[a] <= self._budget
            ],
            dtype=np.int64,
        ).reshape(-1, 2)
        first, second = np.triu_indices(n)
        cheap = self._cost[first] + self._cost[second] <= self._budget
        first, second = first[cheap], second[cheap]
        m1, m2 = self._m[first], self._m[second]
        summed = (m1 + m2 == total) & (m1 > 0) & (m2 > 0)
        double = self._with_radial(first[summed], second[summed])
        forward, backward = m1 - m2 == total, (m2 - m1 == total) & (total > 0)
        one = np.concatenate([first[forward], second[backward]])
        other = np.concatenate([second[forward], first[backward]])
        if weight == "odd":
            kept = (one != other) & (self._m[one] > 0)
            one, other = one[kept], other[kept]
        conjugated = self._with_radial(one, other)
        return _Plan(bare, (single[:, 0], single[:, 1]), double, conjugated)

    def _with_radial(self, first: Ints, second: Ints) -> tuple[Ints, Ints, Ints]:
        """All combinations of radial functions with these products within the budget."""
        cost = self._cost[first] + self._cost[second]
        k = np.arange(self._n_bond)
        allowed = np.argwhere(k[None, :] + cost[:, None] <= self._budget)
        return allowed[:, 1], first[allowed[:, 0]], second[allowed[:, 0]]


def moments_in_frame(ends: tuple[Floats, Floats], rotations: list[Floats]) -> Complex:
    """Moments (B, species, n, lm) of both atoms as complex numbers in the frame of the bond."""
    l_max = round(np.sqrt(ends[0].shape[3])) - 1
    out = []
    for moments in ends:
        columns = []
        for degree in range(l_max + 1):
            span = slice(degree * degree, (degree + 1) ** 2)
            local = np.einsum("bpq,bsnq->bsnp", rotations[degree], moments[..., span])
            z = local[..., degree:].astype(complex)
            if degree:
                z[..., 1:] += 1j * local[..., degree - 1 :: -1]
            columns.append(z)
        out.append(np.concatenate(columns, axis=3).reshape(len(ends[0]), -1))
    return np.concatenate(out, axis=1)

r"""Equivariant features of an atom, for the on-site blocks of a matrix.

A block between shells of degrees l1 and l2 is a sum of tensors of degree
:math:`|l_1 - l_2| \ldots l_1 + l_2`, even or odd under inversion like :math:`(-1)^{l_1 + l_2}`.
Features of the same kind are products of the moments of the neighbours:

==================================================  =====================================
formula                                             code
==================================================  =====================================
T^l_m = sum C^{lm}_{l1m1 l2m2} H_{l1m1 l2m2}        :func:`to_tensors`
H from T, the inverse                               :func:`from_tensors`
A^l, (A^{l'} x A^{l''})^l, times A_{00}             :meth:`SiteFeatures.of`
==================================================  =====================================

Source: Drautz, Phys. Rev. B 99, 014104 (2019), for the products of moments.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from otf.arrays import Floats, Ints
from otf.electrons.bond_features import EACH_MOMENT
from otf.electrons.harmonics import coupling
from otf.orbitals.block_matrices import width

TensorKind = tuple[int, int]
"""Degree, and 1 for a tensor or -1 for a pseudo-tensor."""


def _span(degree: int) -> slice:
    return slice(degree * degree, (degree + 1) ** 2)


def _couplings(shells: tuple[int, ...]) -> list[tuple[TensorKind, slice, slice, Floats]]:
    """Kind, slices of both shells and coefficients, for each pair of shells and each degree."""
    ends = np.cumsum([2 * degree + 1 for degree in shells])
    spans = [slice(end - 2 * degree - 1, end) for end, degree in zip(ends, shells, strict=True)]
    out = []
    for l1, rows in zip(shells, spans, strict=True):
        for l2, columns in zip(shells, spans, strict=True):
            for degree in range(abs(l1 - l2), l1 + l2 + 1):
                kind = (degree, (-1) ** (l1 + l2 + degree))
                out.append((kind, rows, columns, coupling(l1, l2, degree)))
    return out


def to_tensors(blocks: Floats, shells: tuple[int, ...]) -> dict[TensorKind, Floats]:
    """Blocks (B, orbitals, orbitals) as tensors (B, 2l + 1, count) of each kind."""
    found: dict[TensorKind, list[Floats]] = {}
    for kind, rows, columns, coefficients in _couplings(shells):
        tensor = np.einsum("mpq,bpq->bm", coefficients, blocks[:, rows, columns])
        found.setdefault(kind, []).append(tensor)
    return {kind: np.stack(tensors, axis=2) for kind, tensors in found.items()}


def from_tensors(tensors: Mapping[TensorKind, Floats], shells: tuple[int, ...]) -> Floats:
    """Inverse of :func:`to_tensors`."""
    n, size = len(next(iter(tensors.values()))), width(shells)
    out = np.zeros((n, size, size))
    used = dict.fromkeys(tensors, 0)
    for kind, rows, columns, coefficients in _couplings(shells):
        tensor = tensors[kind][:, :, used[kind]]
        out[:, rows, columns] += np.einsum("mpq,bm->bpq", coefficients, tensor)
        used[kind] += 1
    return out


@dataclass(frozen=True)
class _Product:
    """Moments to couple: degrees l1, l2 and channels first[i], second[i]."""

    l1: int
    l2: int
    first: tuple[int, ...]
    second: tuple[int, ...]


class SiteFeatures:
    """Features of atoms for every kind of tensor.

    Parameters
    ----------
    n_species, n_radial, l_max
        Sizes of the moments.
    budget
        Maximum sum of n + l of a product.
    """

    def __init__(self, n_species: int, n_radial: int, l_max: int, budget: int) -> None:
        self._n_radial = n_radial
        self._l_max = l_max
        self._n_channels = n_species * n_radial
        self._budget = budget
        radial = np.arange(self._n_channels) % n_radial
        self._degrees = radial  # of a channel, without l
        self._products = {
            (l1, l2): self._pairs(l1, l2) for l1 in range(l_max + 1) for l2 in range(l1, l_max + 1)
        }

    def _pairs(self, l1: int, l2: int) -> _Product:
        pairs = [
            (a, b)
            for a in range(self._n_channels)
            for b in range(a if l1 == l2 else 0, self._n_channels)
            if self._degrees[a] + l1 + self._degrees[b] + l2 <= self._budget
        ]
        return _Product(l1, l2, tuple(a for a, _ in pairs), tuple(b for _, b in pairs))

    def degrees(self, kind: TensorKind) -> Ints:
        """Degree of each feature: the sum of n + l, plus ``EACH_MOMENT`` per moment."""
        degree, sign = kind
        out = []
        if kind == (0, 1):
            out.append(np.zeros(1, dtype=np.int64))
        if sign == 1 and degree <= self._l_max:
            out.append(self._degrees + degree + EACH_MOMENT)
        for (l1, l2), product in self._coupled(kind):
            first, second = np.array(product.first), np.array(product.second)
            of_channels = self._degrees[first] + self._degrees[second]
            out.append(of_channels + l1 + l2 + 2 * EACH_MOMENT)
        return np.concatenate(out) if out else np.zeros(0, dtype=np.int64)

    def _coupled(self, kind: TensorKind) -> Iterator[tuple[tuple[int, int], _Product]]:
        """Products that have a component of this kind."""
        degree, sign = kind
        for (l1, l2), product in self._products.items():
            allowed = abs(l1 - l2) <= degree <= l1 + l2 and (-1) ** (l1 + l2 + degree) == sign
            if allowed and product.first:
                yield (l1, l2), product

    def of(self, moments: Floats, kind: TensorKind) -> Floats:
        """Features (B, 2l + 1, count) of atoms with these moments (B, species, n, lm)."""
        degree, sign = kind
        flat = moments.reshape(len(moments), self._n_channels, -1)
        columns = []
        if kind == (0, 1):
            columns.append(np.ones((len(flat), 1, 1)))
        if sign == 1 and degree <= self._l_max:
            columns.append(flat[:, :, _span(degree)].transpose(0, 2, 1))
        for (l1, l2), product in self._coupled(kind):
            coefficients = coupling(l1, l2, degree)
            one = flat[:, product.first, _span(l1)]
            other = flat[:, product.second, _span(l2)]
            columns.append(np.einsum("mpq,bcp,bcq->bmc", coefficients, one, other, optimize=True))
        if not columns:
            return np.zeros((len(flat), 2 * degree + 1, 0))
        return np.concatenate(columns, axis=2)

r"""Four-body features: rotational invariants of three moments.

.. math::

   V_{abc}(i) = \sum_{m_1 m_2 m_3} G^{m_1 m_2 m_3}_{l_1 l_2 l_3}
                A_{c_1, l_1 m_1} A_{c_2, l_2 m_2} A_{c_3, l_3 m_3}, \qquad
   G = \int Y_{l_1 m_1} Y_{l_2 m_2} Y_{l_3 m_3}\, d\Omega

The integral over the sphere is independent of the orientation, so every such sum is invariant
under rotations; by parity it vanishes unless :math:`l_1 + l_2 + l_3` is even.

====================================  ===========================
formula                               code
====================================  ===========================
G, exact by quadrature                :func:`gaunt_coefficients`
couplings of (c, l)                   :func:`make_four_body`
V_{abc}                               :func:`four_body_features`
sum_f g_f V_f and derivative by A     :func:`four_body_adjoint`
dV/dA                                 :func:`four_body_jacobian`
====================================  ===========================

Sources: Drautz, Phys. Rev. B 99, 014104 (2019), sec. IV (products of order 3); NIST Digital Library
of Mathematical Functions, 34.3.22 (the integral).
"""

from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from otf.arrays import Floats, Indices, Ints
from otf.kernels.harmonics import normalisation, solid_harmonics
from otf.kernels.jit import inner_kernel

_NEGLIGIBLE = 1e-12


class FourBody(NamedTuple):
    """Four-body features as sums of products of moments.

    Moments are numbered c * n_lm + lm.

    Attributes
    ----------
    first
        (features + 1,) products of feature f: ``first[f]`` to ``first[f + 1]``.
    factors
        (products, 3) the moments to multiply.
    weight
        (products,) G, summed where a product occurs more than once.
    touched_first, touched
        (features + 1,) and (entries,): the moments each feature depends on.
    entry
        (products, 3) indices of the factors in ``touched``.
    term
        (products,) the term of the energy each product belongs to: those of the same factors are
        one term.
    pairs, pair_first, third
        (pairs, 2) two factors that terms have in common, (pairs + 1,) where these terms begin, and
        (terms,) their third factor.
    """

    first: Ints
    factors: Ints
    weight: Floats
    touched_first: Ints
    touched: Ints
    entry: Ints
    term: Ints
    pairs: Indices
    pair_first: Indices
    third: Indices


def gaunt_coefficients(l_max: int) -> Floats:
    """Integrals of three real spherical harmonics, ((l_max+1)**2,) * 3.

    Examples
    --------
    >>> float(round(gaunt_coefficients(0)[0, 0, 0] ** 2 * 4 * np.pi, 12))
    1.0
    """
    norm = normalisation(l_max)
    n_lm = (l_max + 1) ** 2
    nodes, weights = np.polynomial.legendre.leggauss(2 * l_max + 1)
    n_phi = 4 * l_max + 1  # exact for products of degree 3 l_max in both angles
    value, gradient = np.empty(n_lm), np.empty((n_lm, 3))
    scratch = np.empty((l_max + 2, l_max + 2))
    points = np.empty((len(nodes) * n_phi, n_lm))
    for i, z in enumerate(nodes):
        for j in range(n_phi):
            phi, rho = 2.0 * np.pi * j / n_phi, np.sqrt(1.0 - z * z)
            solid_harmonics(rho * np.cos(phi), rho * np.sin(phi), z, norm, scratch, value, gradient)
            points[i * n_phi + j] = value
    weight = np.repeat(weights, n_phi) * 2.0 * np.pi / n_phi
    return np.asarray(np.einsum("pa,pb,pc,p->abc", points, points, points, weight, optimize=True))


def make_four_body(
    *, n_channels: int, n_three: int, l_max: int, n_radial: int, l_four: int, degree: int
) -> FourBody:
    """Couplings of all triples of (channel, n, l) up to a total degree.

    Parameters
    ----------
    n_channels, n_three, l_max
        Sizes of the moments.
    n_radial, l_four
        Number of radial polynomials and highest l used, at most those of the moments.
    degree
        Largest sum of the three n and the three l; below 0 there are no features.
    """
    n_lm = (l_max + 1) ** 2
    n_radial, l_four = min(n_radial, n_three), min(l_four, l_max)
    parts = [
        (k * n_three + n, n, angular)
        for k in range(n_channels)
        for n in range(n_radial)
        for angular in range(l_four + 1)
    ]
    gaunt = gaunt_coefficients(l_four)
    first, factors, weight = [0], [], []
    touched_first, touched, entry = [0], [], []
    for triple in combinations_with_replacement(parts, 3):
        angular = [p[2] for p in triple]
        if sum(angular) % 2 or 2 * max(angular) > sum(angular):
            continue
        if sum(p[1] for p in triple) + sum(angular) > degree:
            continue
        products = _products(triple, gaunt, n_lm)
        mine = sorted({factor for product in products for factor in product})
        for product, value in sorted(products.items()):
            factors.append(product)
            weight.append(value)
            entry.append([touched_first[-1] + mine.index(factor) for factor in product])
        first.append(len(factors))
        touched += mine
        touched_first.append(len(touched))
    of_products = np.array(factors, dtype=np.int64).reshape(-1, 3)
    return FourBody(
        np.array(first, dtype=np.int64),
        of_products,
        np.array(weight, dtype=float),
        np.array(touched_first, dtype=np.int64),
        np.array(touched, dtype=np.int64),
        np.array(entry, dtype=np.int64).reshape(-1, 3),
        *_terms(of_products),
    )


def _terms(factors: Ints) -> tuple[Ints, Indices, Indices, Indices]:
    """The terms of products (products, 3): see ``term`` to ``third`` of :class:`FourBody`.

    Each is assigned to the most frequent of its three pairs. Pairs with as many terms are adjacent,
    so that the length of the inner loop of :func:`four_body_adjoint` can be predicted.
    """
    terms, of_product = np.unique(factors, axis=0, return_inverse=True)
    splits = np.stack([terms, terms[:, [0, 2, 1]], terms[:, [1, 2, 0]]], axis=1)
    _, code, count = np.unique(
        splits[..., :2].reshape(-1, 2), axis=0, return_inverse=True, return_counts=True
    )
    each, best = np.arange(len(terms)), count[code].reshape(-1, 3).argmax(axis=1)
    chosen, pair = splits[each, best], code.reshape(-1, 3)[each, best]
    order = np.lexsort((chosen[:, 2], pair, np.bincount(pair, minlength=len(count))[pair]))
    chosen, place = chosen[order], np.empty(len(terms), np.int64)
    place[order] = each
    begins = np.flatnonzero(np.diff(pair[order], prepend=-1))
    return (
        place[of_product.ravel()],
        chosen[begins, :2].astype(np.uint64),
        np.append(begins, len(terms)).astype(np.uint64),
        chosen[:, 2].astype(np.uint64),
    )


def term_weights(four: FourBody, coefficients: Floats) -> Floats:
    """Weights (terms,) of the products in the energy, from coefficients (features,) in eV."""
    of_products = np.repeat(coefficients, np.diff(four.first)) * four.weight
    return np.bincount(four.term, of_products, minlength=len(four.third)).astype(float)


def _products(
    triple: tuple[tuple[int, int, int], ...], gaunt: Floats, n_lm: int
) -> dict[tuple[int, int, int], float]:
    """The distinct products of one invariant with their weights."""
    shells = [range(a * a, (a + 1) * (a + 1)) for _, _, a in triple]
    products: dict[tuple[int, int, int], float] = {}
    for one in shells[0]:
        for two in shells[1]:
            for three in shells[2]:
                value = float(gaunt[one, two, three])
                if abs(value) < _NEGLIGIBLE:
                    continue
                a, b, c = sorted(
                    channel * n_lm + lm
                    for (channel, _, _), lm in zip(triple, (one, two, three), strict=True)
                )
                products[a, b, c] = products.get((a, b, c), 0.0) + value
    return {product: value for product, value in products.items() if abs(value) > _NEGLIGIBLE}


@inner_kernel
def four_body_features(four: FourBody, moments: Floats, features: Floats) -> None:
    """Fill the last of the features from the moments (channels * n_lm,)."""
    count = four.first.shape[0] - 1
    start = features.shape[0] - count
    for f in range(count):
        total = 0.0
        for k in range(four.first[f], four.first[f + 1]):
            a, b, c = four.factors[k, 0], four.factors[k, 1], four.factors[k, 2]
            total += four.weight[k] * moments[a] * moments[b] * moments[c]
        features[start + f] = total


@inner_kernel
def four_body_adjoint(four: FourBody, weights: Floats, moments: Floats, adjoint: Floats) -> float:
    """The energy of the products with their weights; adds its derivatives to ``adjoint``."""
    energy = 0.0
    for p in range(four.pairs.shape[0]):
        i, j = four.pairs[p, 0], four.pairs[p, 1]
        a, b = moments[i], moments[j]
        product, total = a * b, 0.0
        for t in range(four.pair_first[p], four.pair_first[p + 1]):
            k = four.third[t]
            total += weights[t] * moments[k]
            adjoint[k] += weights[t] * product
        energy += product * total
        adjoint[i] += b * total
        adjoint[j] += a * total
    return energy


@inner_kernel
def four_body_jacobian(four: FourBody, moments: Floats, out: Floats) -> None:
    """Fill the derivatives of each feature by the moments it depends on, (entries,)."""
    out[:] = 0.0
    for k in range(four.factors.shape[0]):
        a = moments[four.factors[k, 0]]
        b = moments[four.factors[k, 1]]
        c = moments[four.factors[k, 2]]
        out[four.entry[k, 0]] += four.weight[k] * b * c
        out[four.entry[k, 1]] += four.weight[k] * a * c
        out[four.entry[k, 2]] += four.weight[k] * a * b

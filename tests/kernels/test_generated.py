"""The loops written out for the sizes of a model against the kernels for any size."""

import numpy as np
import pytest
from numba import njit

from otf.kernels import generated
from otf.kernels.harmonics import normalisation, solid_harmonics
from otf.kernels.jit import OPTIONS
from otf.kernels.radial import expm1, radial_values, recursion_table
from otf.kernels.shapes import FX, LANES, X, Y, Z, make_shape, rows_of

CUTOFFS = (5.0, 4.0)
SIZES = [
    (4, 2, 3, 0.0),
    pytest.param((1, 1, 0, 3.0), marks=pytest.mark.full),  # each is compiled anew
    pytest.param((20, 8, 6, 0.0), marks=pytest.mark.full),
]


def compiled(function, arguments):
    """The kernel as a function that Python can call."""
    made = {"function": function}
    exec(f"def call({arguments}):\n    function({arguments})", made)
    return njit(**OPTIONS)(made["call"])


class Loops:
    """The compiled loops for some sizes."""

    def __init__(self, n_two: int, n_three: int, l_max: int, decay: float) -> None:
        self.n_two, self.n_three, self.l_max, self.decay = n_two, n_three, l_max, decay
        self.shape = make_shape(n_two, n_three, l_max + 1, 20)
        self.rows = rows_of(self.shape)
        self._pairs = compiled(
            generated.pair_features, "shape, count, page, r_min, r_cut, decay, features, first"
        )
        self._moments = compiled(
            generated.page_moments, "shape, count, page, r_min, r_cut, decay, moments"
        )
        self._gradients = compiled(
            generated.pair_gradients, "shape, every, count, page, gradient, first, adjoint"
        )

    def page(self, vectors):
        """A page with neighbours, and their number rounded up to whole groups."""
        page = np.full(self.rows.total * self.rows.width, np.nan)
        count = -(-len(vectors) // LANES) * LANES
        filled = np.array([*vectors, *[(0.0, 0.0, 20.0)] * (count - len(vectors))])
        for row, values in zip((X, Y, Z), filled.T, strict=True):
            page[row * self.rows.width :][:count] = values
        return page, count

    def features(self, vectors):
        page, count = self.page(vectors)
        features, moments = np.zeros(1 + self.n_two), np.zeros(self.n_three * self.rows.n_lm)
        self._pairs(self.shape, count, page, 0.5, CUTOFFS[0], self.decay, features, 1)
        self._moments(self.shape, count, page, 0.5, CUTOFFS[1], self.decay, moments)
        return features[1:], moments, page, count

    def gradients(self, vectors, by_features, by_moments):
        page, count = self.features(vectors)[2:]
        self._gradients(self.shape, count, count, page, by_features, 0, by_moments)
        forces = page.reshape(self.rows.total, -1)[FX : FX + 3, : len(vectors)]
        return forces.T


@pytest.fixture(scope="module", params=SIZES, ids=str)
def loops(request):
    return Loops(*request.param)


@pytest.fixture
def vectors(rng):
    """Neighbours inside both cutoffs, between them, and outside."""
    lengths = np.array([0.9, 2.0, 3.0, 3.999, 4.3, 4.999, 5.1])
    directions = rng.normal(size=(len(lengths), 3))
    return directions / np.linalg.norm(directions, axis=1)[:, None] * lengths[:, None]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def radial(r, n, cutoff, decay):
    value, slope = np.empty(n), np.empty(n)
    radial_values(r, 0.5, cutoff, decay, recursion_table(n), value, slope)
    return value if r < cutoff else np.zeros(n)


def harmonics(vector, l_max):
    unit, n_lm = vector / np.linalg.norm(vector), (l_max + 1) ** 2
    value, gradient, scratch = np.empty(n_lm), np.empty((n_lm, 3)), np.empty((l_max + 2, l_max + 2))
    solid_harmonics(*unit, normalisation(l_max), scratch, value, gradient)
    return value


def test_features_and_moments_equal_the_sums_over_neighbours(loops, vectors):
    two, moments, _, _ = loops.features(vectors)
    lengths = np.linalg.norm(vectors, axis=1)
    expected = sum(radial(r, loops.n_two, CUTOFFS[0], loops.decay) for r in lengths)
    np.testing.assert_allclose(two, expected, rtol=1e-12, atol=1e-13)
    products = (
        np.outer(radial(r, loops.n_three, CUTOFFS[1], loops.decay), harmonics(v, loops.l_max))
        for r, v in zip(lengths, vectors, strict=True)
    )
    np.testing.assert_allclose(moments, sum(products).ravel(), rtol=1e-11, atol=1e-12)


def test_gradients_are_derivatives_of_features_and_moments(loops, vectors, rng):
    by_features = rng.normal(size=loops.n_two)
    by_moments = rng.normal(size=loops.n_three * loops.rows.n_lm)

    def energy(moved):
        two, moments, _, _ = loops.features(moved)
        return by_features @ two + by_moments @ moments

    found, step = loops.gradients(vectors, by_features, by_moments), 1e-5
    for j, c in np.ndindex(vectors.shape):
        ahead, behind = vectors.copy(), vectors.copy()
        ahead[j, c] += step
        behind[j, c] -= step
        slope = (energy(ahead) - energy(behind)) / (2 * step)
        assert found[j, c] == pytest.approx(slope, abs=2e-6 * np.abs(found).max())


@pytest.mark.parametrize("channels", [1, 5])
def test_spectrum_and_its_adjoint(loops, channels, rng):
    n_lm, degrees = loops.rows.n_lm, loops.l_max + 1
    moments = rng.normal(size=(channels, n_lm))
    degree = np.sqrt(np.arange(n_lm)).astype(int)
    pairs = [(c, d) for c in range(channels) for d in range(c, channels)]
    expected = [np.bincount(degree, moments[c] * moments[d], minlength=degrees) for c, d in pairs]
    features = np.full(2 + len(pairs) * degrees, np.nan)
    fill = compiled(generated.spectrum, "shape, channels, moments, features, first")
    fill(loops.shape, channels, moments.ravel(), features, 2)
    np.testing.assert_allclose(features[2:], np.ravel(expected), rtol=1e-12, atol=1e-13)

    gradient, adjoint = rng.normal(size=features.size), np.full(moments.size, np.nan)
    turn = compiled(
        generated.spectrum_adjoint, "shape, channels, moments, gradient, first, adjoint"
    )
    turn(loops.shape, channels, moments.ravel(), gradient, 2, adjoint)
    by_moments = np.zeros_like(moments)
    for (c, d), g in zip(pairs, gradient[2:].reshape(-1, degrees), strict=True):
        by_moments[c] += g[degree] * moments[d]
        by_moments[d] += g[degree] * moments[c]
    np.testing.assert_allclose(adjoint, by_moments.ravel(), rtol=1e-12, atol=1e-13)


def test_exponential_is_exact_to_rounding():
    y = np.concatenate([np.linspace(-20, 20, 401), -np.logspace(-12, 0, 60)])
    found = np.array([expm1(v) for v in y])
    error = np.abs(found - np.expm1(y)) / np.maximum(np.abs(np.expm1(y)), 1e-300)
    assert error.max() < 1e-14

"""Radial polynomials and spherical harmonics against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import sph_harm_y

from otf.kernels.harmonics import normalisation, solid_harmonics
from otf.kernels.radial import radial_values, recursion_table
from tests.oracles.slow_descriptor import radial

R_MIN, R_CUT, COUNT = 0.5, 5.0, 9
TABLE = recursion_table(COUNT)


def values(r, decay=0.0):
    value, slope = np.empty(COUNT), np.empty(COUNT)
    radial_values(r, R_MIN, R_CUT, decay, TABLE, value, slope)
    return value, slope


DECAYS = st.sampled_from([0.0, 0.5, 2.0, 4.0, 10.0])


@given(st.floats(0.3, 4.999), DECAYS)
def test_radial_equals_its_definition(r, decay):
    expected = [radial(r, k, R_MIN, R_CUT, decay) for k in range(COUNT)]
    np.testing.assert_allclose(values(r, decay)[0], expected, rtol=1e-9, atol=1e-10)


@given(st.floats(0.6, 4.9), DECAYS)
def test_radial_slope_is_the_derivative(r, decay):
    h = 1e-5
    numerical = (values(r + h, decay)[0] - values(r - h, decay)[0]) / (2 * h)
    np.testing.assert_allclose(values(r, decay)[1], numerical, rtol=1e-6, atol=1e-5)


def test_radial_is_orthonormal_on_the_unit_interval():
    def overlap(i, j):
        def product(x):
            both = values(R_MIN + x * (R_CUT - R_MIN))[0]
            return both[i] * both[j]

        return quad(product, 0, 1, epsabs=1e-12)[0]

    matrix = [[overlap(i, j) for i in range(5)] for j in range(5)]
    np.testing.assert_allclose(matrix, np.eye(5), atol=1e-9)


@pytest.mark.parametrize("decay", [0.0, 4.0])
def test_radial_value_slope_and_curvature_vanish_at_the_cutoff(decay):
    h = 1e-4
    near, slope = values(R_CUT - h, decay)
    assert np.abs(near).max() < 1e-8
    assert np.abs(slope).max() < 1e-5
    curvature = (slope - values(R_CUT - 2 * h, decay)[1]) / h
    assert np.abs(curvature).max() < 0.2  # proportional to h, by the third derivative


def harmonics(vector, l_max):
    count = (l_max + 1) ** 2
    q, value, gradient = np.empty((l_max + 2, l_max + 2)), np.empty(count), np.empty((count, 3))
    solid_harmonics(*vector, normalisation(l_max), q, value, gradient)
    return value, gradient


unit_vectors = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)


@given(unit_vectors)
def test_harmonics_equal_scipy(vector):
    x, y, z = np.array(vector) / np.linalg.norm(vector)
    theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    expected = []
    for degree in range(5):
        for m in range(-degree, degree + 1):
            complex_value = (-1) ** m * sph_harm_y(degree, abs(m), theta, phi)
            if m == 0:
                expected.append(complex_value.real)
            else:
                part = complex_value.real if m > 0 else complex_value.imag
                sign = 1 if m > 0 else (-1) ** (m + abs(m))
                expected.append(np.sqrt(2) * sign * part)
    np.testing.assert_allclose(harmonics((x, y, z), 4)[0], expected, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
@given(unit_vectors)
def test_harmonic_gradient_is_that_of_the_homogeneous_polynomial(axis, vector):
    l_max, h = 4, 1e-6
    vector = np.array(vector) / np.linalg.norm(vector)

    def solid(v):
        r = np.linalg.norm(v)
        powers = np.concatenate([[r**d] * (2 * d + 1) for d in range(l_max + 1)])
        return harmonics(v / r, l_max)[0] * powers

    shift = h * np.eye(3)[axis]
    numerical = (solid(vector + shift) - solid(vector - shift)) / (2 * h)
    np.testing.assert_allclose(harmonics(vector, l_max)[1][:, axis], numerical, atol=1e-7)

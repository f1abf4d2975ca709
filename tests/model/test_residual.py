"""Autoregression: stability, order selection, rotational equivariance, decay in time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from otf.model.residual import fit


def process(coefficients, count, *, atoms=20, seed=0):
    rng = np.random.default_rng(seed)
    series = [np.zeros((atoms, 3)) for _ in coefficients]
    for _ in range(count + 200):
        past = series[: -len(coefficients) - 1 : -1]
        series.append(sum(a * r for a, r in zip(coefficients, past)) + rng.normal(size=(atoms, 3)))
    return np.array(series[-count:])


@pytest.mark.parametrize("true", [(0.8,), (1.2, -0.5), (0.5, 0.3, -0.4)])
def test_finds_order_and_coefficients(true):
    forecast = fit(process(true, 200))
    np.testing.assert_allclose(forecast.coefficients, true, atol=0.06)
    assert forecast.innovation == pytest.approx(1.0, rel=0.05)


def test_white_residuals_forecast_nothing_but_their_size():
    series = np.random.default_rng(0).normal(size=(40, 20, 3))
    forecast = fit(series)
    assert len(forecast.coefficients) == 0
    assert not forecast.mean(1.0).any()
    np.testing.assert_allclose(forecast.mean(0.25), 0.75 * series[-1])
    assert forecast.size(3.0) == pytest.approx(1.0, rel=0.05)


@given(seed=st.integers(0, 10**6), count=st.integers(1, 16), growth=st.floats(0.5, 1.5))
def test_always_stable(seed, count, growth):
    """Also for a diverging series."""
    series = np.random.default_rng(seed).normal(size=(count, 3, 3))
    series *= growth ** np.arange(count)[:, None, None]
    forecast = fit(series)
    roots = np.roots([1.0, *-forecast.coefficients])
    assert np.abs(roots).max(initial=0.0) < 1.0
    assert not forecast.mean(1e6).any()
    assert np.isfinite(forecast.size(1e6))


def test_forecast_turns_with_the_system():
    series = process((0.9,), 12)
    rotation = Rotation.from_quat(np.random.default_rng(1).normal(size=4)).as_matrix()
    turned = fit(series @ rotation.T)
    np.testing.assert_allclose(turned.mean(1.7), fit(series).mean(1.7) @ rotation.T, atol=1e-12)


def test_size_is_that_of_the_errors_of_the_forecast():
    series = process((0.8,), 4000, atoms=5)
    forecast = fit(series[:200])
    for ahead in (1, 3):
        gain = forecast.coefficients[0] ** ahead
        errors = series[ahead:] - gain * series[:-ahead]
        spread = np.sqrt(forecast.size(ahead) ** 2 - np.mean(forecast.mean(ahead) ** 2))
        assert spread == pytest.approx(errors.std(), rel=0.1)

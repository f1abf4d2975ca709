"""Reweighting from a harmonic to a quartic potential in 1D, compared with exact results."""

import numpy as np
import pytest

from otf.analysis.blocks import autocorrelation_time, length_of_blocks
from otf.analysis.reweighting import reweight
from otf.units import KELVIN

KT = KELVIN * 300.0
EDGES = np.linspace(-3.0, 3.0, 25)


def engine(x: np.ndarray, strength: float) -> np.ndarray:
    """Energy of the engine less the model's x^2 kT / 2."""
    return strength * KT * (0.25 * x**3 + 0.1 * x**4)


def exact(strength: float) -> np.ndarray:
    x = np.linspace(-3.0, 3.0, 2401)
    density = np.exp(-0.5 * x**2 - engine(x, strength) / KT)
    histogram = np.histogram(x, EDGES, weights=density)[0]
    return histogram / histogram.sum()


def histograms(x: np.ndarray) -> np.ndarray:
    return np.array([np.histogram([v], EDGES)[0] for v in x], dtype=float)


def sampled(n: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=4 * n)
    return x[np.abs(x) < 3.0][:n]


@pytest.mark.parametrize(("strength", "method"), [(0.5, "exponential"), (1.0, "exponential")])
def test_corrected_averages_are_the_engines(strength, method):
    frames = histograms(sampled(20000, 1)).mean(axis=0)
    labels = sampled(1500, 2)
    found = reweight(histograms(labels), engine(labels, strength) + 7.0, temperature_K=300.0)
    assert found.method == method
    z = (frames + found.shift.mean - exact(strength)) / np.hypot(found.shift.error, 0.002)
    assert np.sqrt(np.mean(z**2)) < 1.5
    uncorrected = (frames - exact(strength)) / 0.002
    assert np.sqrt(np.mean(uncorrected**2)) > 3.0


def test_the_error_of_the_correction_covers_its_scatter():
    shifts, errors = [], []
    for seed in range(60):
        labels = sampled(200, seed)
        found = reweight(histograms(labels), engine(labels, 0.5), temperature_K=300.0)
        shifts.append(found.shift.mean)
        errors.append(found.shift.error)
    middle = slice(8, 16)
    np.testing.assert_allclose(
        np.std(shifts, axis=0)[middle], np.mean(errors, axis=0)[middle], rtol=0.5
    )


def test_first_order_where_few_labels_would_carry_the_weight():
    """A single label of much lower energy dominates the exponential weights."""
    x = sampled(400, 3)
    differences = engine(x, 0.1)
    differences[0] -= 12.0 * KT
    found = reweight(histograms(x), differences, temperature_K=300.0)
    assert found.method == "first order"
    assert found.effective_labels < 0.3 * 400
    assert "only" in found.why
    delta = (differences - differences.mean()) / KT
    by_hand = -np.cov(histograms(x)[:, 12], delta)[0, 1]
    assert found.shift.mean[12] == pytest.approx(by_hand)
    n = 400 // length_of_blocks(autocorrelation_time(delta), 400)
    blocks = np.array_split(np.arange(400), n)
    left = [-np.cov(np.delete(histograms(x)[:, 12], b), np.delete(delta, b))[0, 1] for b in blocks]
    jackknife = np.sqrt((n - 1) / n * np.sum((left - np.mean(left)) ** 2))
    assert found.shift.error[12] == pytest.approx(jackknife, rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, -12.0], ids=["exponential", "first order"])
def test_the_energy_of_the_engine_is_not_the_models(offset):
    """<E> over the engine's distribution, from both energies at samples of the model."""
    x = sampled(4000, 5)
    by_model = 0.5 * KT * x**2
    by_engine = by_model + engine(x, 0.3)
    by_engine[0] += offset * KT  # dominates the weights
    found = reweight(by_engine, by_engine - by_model, temperature_K=300.0, by_model=by_model)
    fine = np.linspace(-3.0, 3.0, 2401)
    energy = 0.5 * KT * fine**2 + engine(fine, 0.3)
    weight = np.exp(-energy / KT)
    shift = np.sum(weight * energy) / weight.sum()
    model_weight = np.exp(-0.5 * fine**2)
    shift -= np.sum(model_weight * 0.5 * KT * fine**2) / model_weight.sum()
    assert found.method == ("exponential" if offset == 0.0 else "first order")
    bias = 0.0 if offset == 0.0 else 0.2 * KT  # second-order error
    assert abs(found.shift.mean - shift) < 3.0 * found.shift.error + bias
    if offset == 0.0:
        naive = np.mean(by_engine - by_model)
        assert abs(naive - shift) > 5.0 * found.shift.error


def test_no_correction_and_why():
    x = sampled(300, 4)
    hopeless = reweight(histograms(x), 30.0 * KT * x, temperature_K=300.0)
    assert hopeless.method == "none"
    assert "differ by" in hopeless.why
    assert np.isnan(hopeless.shift.mean).all()
    few = reweight(histograms(x[:10]), engine(x[:10], 1.0), temperature_K=300.0)
    assert (few.method, few.why) == ("none", "10 labels are too few")


def test_a_perfect_model_needs_no_correction():
    x = sampled(100, 5)
    found = reweight(histograms(x), np.full(100, -3.0), temperature_K=300.0)
    assert found.method == "exponential"
    assert found.effective_labels == pytest.approx(100.0)
    np.testing.assert_allclose(found.shift.mean, 0.0, atol=1e-12)

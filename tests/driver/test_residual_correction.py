"""The autoregressive residual between two labels: its forces and their work."""

import numpy as np
import pytest
from ase import Atoms, units

from otf.driver.residual_correction import ResidualCorrection
from otf.dynamics.ensembles import Ensemble, EnsembleSettings
from otf.model.residual import fit
from otf.model.tensor_energy import Prediction


def forecast():
    rng = np.random.default_rng(0)
    series = [rng.normal(size=(4, 3))]
    for _ in range(15):
        series.append(0.9 * series[-1] + 0.05 * rng.normal(size=(4, 3)))
    return fit(np.array(series))


def nothing(n: int) -> Prediction:
    return Prediction(0.0, np.zeros(n), np.zeros((n, 3)), None)


def test_adds_the_forecast_at_the_time_since_the_label():
    ahead = forecast()
    correction = ResidualCorrection(ahead, label_step=40, spacing=10)
    forces = correction.applied(nothing(4), np.zeros((4, 3)), 47).forces
    np.testing.assert_array_equal(forces, ahead.mean(0.7))
    assert np.abs(correction.at(41)).sum() > np.abs(correction.at(200)).sum()
    assert correction.at(10**6).sum() == 0.0


def test_without_a_forecast_nothing_is_touched():
    correction = ResidualCorrection(None, 0, 1)
    prediction = nothing(4)
    assert correction.applied(prediction, np.zeros((4, 3)), 3) is prediction
    assert correction.work == 0.0


def test_work_is_the_kinetic_energy_it_gives_to_free_atoms():
    atoms = Atoms("Ar4", 5.0 * np.eye(4, 3))
    correction = ResidualCorrection(forecast(), label_step=0, spacing=10)
    settings = EnsembleSettings("nve", 1.0, 300.0, 20.0, 20.0)
    ensemble = Ensemble(atoms, settings, np.random.default_rng(0), conserved=0)
    acting = correction.applied(nothing(4), atoms.positions, 0)
    for step in range(1, 60):
        acting = ensemble.step(
            acting,
            lambda moved, at=step: correction.applied(nothing(4), moved.positions, at),
        )
    assert correction.work == pytest.approx(atoms.get_kinetic_energy(), rel=1e-3)
    assert correction.work > 10 * units.kB
    correction.begin()
    assert correction.work == 0.0

"""Energy conservation and temperature of a run, and when a run is not that of its system."""

import re
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from otf.config import Config, read_config
from otf.driver.statistics import Contract
from otf.driver.thermodynamics import (
    energy_conservation,
    explosions,
    mean_temperature,
    runaway,
)
from otf.errors import RunError
from otf.io.committed import Trajectory
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.session import run_session
from tests.driver.test_statistics import label, verdict


def trajectory(n: int = 100, **changes) -> Trajectory:
    zero = np.zeros(n)
    series = {
        "step": np.arange(n),
        "time": 10.0 * np.arange(n),
        "stage": np.zeros(n, dtype=int),
        "conserved_energy": zero - 5.0,
        "kinetic_energy": zero + 0.1,
        "temperature": zero + 300.0,
        "energy_discontinuity": zero,
        "heat": zero,
        "work": zero,
        "barostat": zero,
    }
    return Trajectory(Atoms("H"), ("run",), series | changes)


def assert_keys_exist(text: str) -> None:
    """Keys of the configuration that a message names are there."""
    named = re.findall(r"\b(dynamics|policy)\.(\w+)", text)
    assert named
    for section, key in named:
        assert key in Config.model_fields[section].annotation.model_fields, key


def history(change: float):
    return (label(0, 1.0, total_energy=-4.0), label(1, 1.0, total_energy=-4.0 + change))


def test_energies_of_a_drifting_run():
    time = 10.0 * np.arange(100)
    drifting = trajectory(
        conserved_energy=-5.0 + 2e-6 * time, energy_discontinuity=np.full(100, 0.003)
    )
    found = energy_conservation(drifting, history(-0.002))
    assert found.conserved_meV_ps == pytest.approx(2.0)
    assert found.conserved_scatter_meV == pytest.approx(0.0, abs=1e-9)
    assert found.discontinuity_meV == pytest.approx(3.0)
    assert found.total_change_meV == pytest.approx(-2.0)
    assert found.problem == ""
    unknown = trajectory(conserved_energy=np.full(100, np.nan))
    assert energy_conservation(unknown, history(0.0)) is None


def test_a_broken_account_names_its_cause():
    """The integration is at fault if its own energy drifts, else the model is."""
    time = 10.0 * np.arange(100)
    integration = energy_conservation(
        trajectory(conserved_energy=-5.0 + 2e-5 * time), history(0.05)
    )
    assert "timestep_fs" in integration.problem
    model = energy_conservation(trajectory(), history(0.05))
    assert "force_target_meV_A" in model.problem
    assert "+50 meV, where the kinetic energy is 100 meV" in model.problem
    for problem in (integration.problem, model.problem):
        assert_keys_exist(problem)


def test_noise_of_the_energies_is_no_change_of_the_energy():
    """That of a grid, in a system as small as O2."""
    rng = np.random.default_rng(3)
    noisy = tuple(label(i, 1.0, total_energy=rng.normal(0.0, 0.05)) for i in range(20))
    change = energy_conservation(trajectory(), noisy)
    assert abs(change.total_change_meV) > 30.0
    assert change.problem == ""
    lost = tuple(label(i, 1.0, total_energy=rng.normal(0.05 * i, 0.05)) for i in range(20))
    assert "errors of the model" in energy_conservation(trajectory(), lost).problem


def test_there_is_no_verdict_on_an_unphysical_trajectory():
    kept = verdict(tuple(label(i, 9.0 + i, reason="audit", stands_for=10.0) for i in range(5)))
    assert kept.verdict == "kept"
    void = Contract(kept.target_meV_A, kept.error, unphysical="it evaporated")
    assert void.verdict == "void"
    assert void.judgement == "target 20 meV/A not judged: it evaporated"


@pytest.mark.parametrize(
    ("count", "others", "named"), [(2, 5, False), (3, 5, True), (3, 90, False)]
)
def test_repeated_explosions_are_named(count, others, named):
    records = tuple(
        label(i, 1.0, reason="explosion" if i < count else "scheduled")
        for i in range(count + others)
    )
    assert bool(explosions(records)) is named


def test_mean_temperature_has_an_error_and_a_target():
    rng = np.random.default_rng(1)
    held, errors = 0, []
    for _ in range(100):
        found = mean_temperature(trajectory(temperature=rng.normal(300.0, 40.0, 100)), target_K=300)
        held += abs(found.mean_K - 300.0) < 2.0 * found.error_K
        errors.append(found.error_K)
        assert found.problem == ""
    assert 85 <= held < 100
    assert np.mean(errors) == pytest.approx(4.0, rel=0.1)
    cold = mean_temperature(trajectory(temperature=rng.normal(200.0, 40.0, 100)), target_K=300.0)
    assert "where the thermostat is at 300 K" in cold.problem
    assert_keys_exist(cold.problem)
    short = mean_temperature(trajectory(3, temperature=np.full(3, 300.0)), target_K=None)
    assert short.in_words() == "300.0 K"


@pytest.mark.parametrize(
    ("totals", "ends"),
    [
        ([0.0, 0.0, 0.0, 5.0], False),
        ([0.0, 0.0, 5.0, 5.0], False),
        ([0.0, 5.0, -5.0, 5.0], False),
        ([0.0, 0.5, 0.6, 0.7], True),
        ([0.0, -0.5, -0.6, -0.5], True),
        ([0.0, -0.5, -0.6, -0.3], False),
        ([0.0, 22.0, 22.0, 22.0], True),
    ],
)
def test_a_run_ends_when_several_labels_show_that_its_energy_is_lost(totals, ends):
    """Ten atoms at 300 K have a kinetic energy of 0.39 eV."""
    records = tuple(replace(label(i, 1.0), total_energy=e) for i, e in enumerate(totals))
    assert bool(runaway(records, n_atoms=10, temperature_K=300.0)) is ends
    assert runaway(records, n_atoms=10, temperature_K=0.0) == ""


def test_too_long_a_timestep_ends_a_run_and_is_named(tmp_path):
    source = tmp_path / "run.yaml"
    source.write_text(
        "system: {molecule: CH4}\n"
        "engine: {kind: tblite}\n"
        "dynamics: {ensemble: nve, steps: 500, timestep_fs: 4.5, temperature_K: 300, seed: 1}\n"
    )
    run = create_run(read_config(source), source, tmp_path / "run").path
    with pytest.raises(RunError, match="timestep_fs"):
        run_session(*read_run(run))

"""Hybrid Monte Carlo on a model: exact for the engine, independent of the model's accuracy."""

import math
from contextlib import closing
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.morse import MorsePotential
from scipy import stats

from otf.config import read_config
from otf.driver.records import Segment
from otf.dynamics.hybrid_monte_carlo import (
    SamplerSettings,
    SamplerState,
    adapted,
    segment_length,
)
from otf.errors import ConfigError, RunError
from otf.io.labels import LabelFile
from otf.io.read_frames import read_frames
from otf.io.trajectory import read_trajectory
from otf.runs.checkpoint import read_checkpoint
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.session import run_session
from otf.units import KELVIN

MORSE = {"epsilon": 0.3, "r0": 2.6, "rho0": 4.0, "rcut1": 20.0, "rcut2": 21.0}
_APART = 10  # proposals between independent samples
CONFIG = """\
system: {{structure: dimer.xyz}}
engine:
  kind: ase
  calculator: ase.calculators.morse:MorsePotential
  keywords: {{epsilon: 0.3, r0: 2.6, rho0: 4.0, rcut1: 20.0, rcut2: 21.0}}
dynamics:
  ensemble: slhmc
  steps: {steps}
  timestep_fs: 20.0
  temperature_K: 300
  burn_in: 60
  segment_max: 40
# A model that is far from exact on purpose: it has no minimum.
model: {{radial_two: 1, radial_three: 1, l_max: 0, order: 1, body_order: 3, sharing: species,
        cutoff_two_A: 12, cutoff_three_A: 1}}
{more}
"""


def make(folder: Path, steps: int = 200, more: str = "", name: str = "run") -> Path:
    ase.io.write(folder / "dimer.xyz", Atoms("Ar2", [(0, 0, 0), (0, 0, 2.7)]))
    source = folder / f"{name}.yaml"
    source.write_text(CONFIG.format(steps=steps, more=more))
    return create_run(read_config(source), source, folder / name).path


def energy_of(distance: float) -> float:
    return Atoms(
        "Ar2", [(0, 0, 0), (0, 0, distance)], calculator=MorsePotential(**MORSE)
    ).get_potential_energy()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, long):
    path = make(tmp_path_factory.mktemp("slhmc"), steps=20000 if long else 1600)
    records = []
    summary = run_session(*read_run(path), records.append)
    return path, summary, [r for r in records if isinstance(r, Segment)]


@pytest.mark.full
def test_the_sampled_distances_are_the_engines(finished):
    """Compared with r^2 exp(-V(r) / kT), integrated on a grid."""
    t = read_trajectory(finished[0] / "trajectory.h5")
    distances = np.linalg.norm(t.positions[:, 1] - t.positions[:, 0], axis=1)[t.stage == 1]
    grid = np.linspace(2.0, 5.0, 3001)
    weight = grid**2 * np.exp(-np.array([energy_of(r) + 0.3 for r in grid]) / (KELVIN * 300.0))
    cdf = np.cumsum(weight) / weight.sum()
    samples = distances[::_APART]
    assert stats.kstest(samples, lambda r: np.interp(r, grid, cdf)).pvalue > 1e-3
    energies = t.potential_energy[t.stage == 1][::_APART]
    mean = np.sum(weight * [energy_of(r) for r in grid]) / weight.sum()
    assert abs(energies.mean() - mean) < 4 * energies.std() / math.sqrt(len(energies))


@pytest.mark.full
def test_a_poor_model_is_put_right_by_short_segments(finished):
    summary = finished[1]
    assert summary.by_kind["proposals"].force_mae_meV_A > 50.0
    assert 55.0 < summary.sampling.accepted_percent < 85.0
    assert summary.sampling.mean_steps < 10.0


@pytest.mark.parametrize("scale", [3.0, 40.0, 400.0])
def test_segments_become_as_long_as_acceptance_allows(scale):
    """For a model on which a segment of length L is accepted with probability exp(-L / scale)."""
    settings, rng = SamplerSettings(300.0, burn_in=150, segment_max=200), np.random.default_rng(1)
    state = SamplerState(5.0)
    for proposal in range(1, 151):
        length = segment_length(state, rng)
        chance = math.exp(-length / scale)
        state = adapted(state, settings, accepted=chance, proposals=proposal)
    lengths = np.array([segment_length(state, rng) for _ in range(2000)])
    assert 0.6 < np.exp(-lengths / scale).mean() < 0.8
    assert lengths.min() >= 0.5 * lengths.max() - 1


@pytest.mark.full
def test_kinetic_energies_are_canonical(finished):
    t = read_trajectory(finished[0] / "trajectory.h5")
    twice = 2.0 * t.kinetic_energy[t.stage == 1] / (KELVIN * 300.0)
    assert stats.kstest(twice[::_APART], stats.chi2(3).cdf).pvalue > 1e-3


@pytest.mark.full
def test_frames_are_samples_with_the_engines_energy(finished):
    path, summary, _segments = finished
    t = read_trajectory(path / "trajectory.h5")
    assert len(t) == summary.steps + 1
    for i in (0, 30, 61, 500, 1000):
        distance = np.linalg.norm(t.positions[i, 1] - t.positions[i, 0])
        assert t.potential_energy[i] == pytest.approx(energy_of(distance), abs=1e-12)
    same = (np.diff(t.positions, axis=0) == 0.0).all(axis=(1, 2))[60:]
    assert 1e2 * (1.0 - same.mean()) == pytest.approx(summary.sampling.accepted_percent)
    assert np.isnan(t.conserved_energy).all()
    frames = read_frames(path)
    assert len(frames.of_stage(None)) == len(frames.of_stage("sample")) == summary.steps - 60
    assert frames.time_fs is None


@pytest.mark.full
def test_nothing_is_learned_after_the_burn_in(finished):
    path, summary, segments = finished
    state = read_checkpoint(path / "checkpoint.h5").state
    learned = [s.label for s in segments if s.label and s.label.reason == "burn-in"]
    assert state.trainer.n_labels == len(learned) <= 61 < summary.labels
    thetas = {s.state.trainer.theta.tobytes() for s in segments if s.state.step >= 60}
    assert len(thetas) == 1
    assert summary.contract is None
    assert summary.energy_conservation is None
    with closing(LabelFile(path / "labels.extxyz")) as file:
        assert len(file) == summary.labels


@pytest.mark.parametrize(
    "labels", [pytest.param(n, marks=pytest.mark.full) for n in (3, 40, 61, 100)]
)
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, labels):
    whole = make(tmp_path, name="whole")
    run_session(*read_run(whole))
    path = make(tmp_path, more=f"stop: {{labels: {labels}}}", name="stopped")
    assert run_session(*read_run(path)).steps < 200
    resolved = path / "config.resolved.yaml"
    resolved.write_text(resolved.read_text().replace(f"labels: {labels}", "labels: 9999"))
    run_session(*read_run(path))
    one, other = (read_trajectory(p / "trajectory.h5") for p in (whole, path))
    for name in ("positions", "velocities", "potential_energy", "kinetic_energy"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    strip = [
        [w for w in (p / "labels.extxyz").read_text().split() if "wall_s" not in w]
        for p in (whole, path)
    ]
    assert strip[0] == strip[1]


def test_what_cannot_be_sampled_is_refused(tmp_path):
    make(tmp_path)
    bonds, stages = tmp_path / "bonds.yaml", tmp_path / "stages.yaml"
    text = CONFIG.format(steps=10, more="")
    bonds.write_text(text.replace("dimer.xyz", "dimer.xyz, fixed_bonds: [[0, 1]]"))
    parsed = read_config(bonds)
    with pytest.raises(ConfigError, match="slhmc cannot keep bond lengths"):
        create_run(parsed, bonds, tmp_path / "refused")
    bonds.write_text(text.replace("timestep_fs", "remove_rotation: true\n  timestep_fs"))
    parsed = read_config(bonds)
    with pytest.raises(ConfigError, match="slhmc draws all momenta anew"):
        create_run(parsed, bonds, tmp_path / "refused")
    stages.write_text(text.replace("steps: 10", "stages: [{name: a, steps: 10}]"))
    with pytest.raises(ConfigError, match="slhmc has no stages"):
        read_config(stages)


FLAKY = (
    "ase.calculators.morse:MorsePotential\n  keywords: {{",
    "flaky_calculator:Flaky\n  keywords: {{first: 90, last: LAST, how: HOW, ",
)


def flaky(folder: Path, how: str, last: int, more: str = "") -> Path:
    text = CONFIG.replace(*FLAKY).replace("LAST", str(last)).replace("HOW", how)
    ase.io.write(folder / "dimer.xyz", Atoms("Ar2", [(0, 0, 0), (0, 0, 2.7)]))
    source = folder / "flaky.yaml"
    source.write_text(text.format(steps=120, more=more))
    return create_run(read_config(source), source, folder / "flaky").path


def test_an_unbelievable_energy_is_asked_for_again_before_it_is_judged(tmp_path, caplog):
    path = flaky(tmp_path, "astray", 90)
    run_session(*read_run(path))
    assert caplog.text.count("asking again from scratch") == 1
    assert read_trajectory(path / "trajectory.h5").potential_energy.max() < 1.0


def test_a_proposal_without_a_label_is_rejected_where_the_run_may_go_on(tmp_path, caplog):
    path = flaky(tmp_path, "error", 93, "policy: {on_engine_failure: continue}")
    summary = run_session(*read_run(path))
    assert summary.steps == 120
    assert summary.labels == 119  # including the start, without the two that failed
    assert caplog.text.count("the proposal is rejected") == 2


def test_a_proposal_without_a_label_stops_the_run_otherwise(tmp_path):
    path = flaky(tmp_path, "error", 91)
    with pytest.raises(RunError, match="the engine gave no label"):
        run_session(*read_run(path))

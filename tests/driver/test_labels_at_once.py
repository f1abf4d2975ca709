"""Runs whose labels are computed at once: the trajectory, its audits, failures and resumption."""

import ase.io
import numpy as np
import pytest
from ase.cluster import Icosahedron

from otf.config import read_config
from otf.driver.records import Segment
from otf.errors import ConfigError
from otf.io.labels import read_labels
from otf.io.trajectory import read_trajectory
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.session import open_session, run_session

CONFIG = """\
system: {{structure: cluster.xyz}}
engine: {{kind: ase, calculator: '{calculator}', keywords: {{{keywords}}}}}
dynamics: {{ensemble: langevin, steps: {steps}, timestep_fs: 2.0, temperature_K: 150}}
model: {{radial_two: 8, radial_three: 2, l_max: 2{model}}}
policy:
  force_target_meV_A: 5
  gap_max: 40
  labels_at_once: {at_once}
  {policy}
"""
MORSE = "epsilon: 0.3, r0: 2.6, rho0: 4.0"


def make(
    tmp_path,
    name="run",
    *,
    at_once=3,
    steps=300,
    calculator="ase.calculators.morse:MorsePotential",
    keywords=MORSE,
    policy="",
    model="",
):
    atoms = Icosahedron("Ar", 2, latticeconstant=3.7)
    atoms.rattle(0.02, seed=1)
    ase.io.write(tmp_path / "cluster.xyz", atoms)
    source = tmp_path / f"{name}.yaml"
    source.write_text(
        CONFIG.format(
            calculator=calculator,
            keywords=keywords,
            steps=steps,
            at_once=at_once,
            policy=policy,
            model=model,
        )
    )
    return create_run(read_config(source), source, tmp_path / name).path


def segments_of(path):
    records = []
    summary = run_session(*read_run(path), records.append)
    return summary, [record for record in records if isinstance(record, Segment)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = make(tmp_path_factory.mktemp("whole"))
    return path, *segments_of(path)


def test_every_step_is_committed_once_and_every_label_learned(whole):
    path, summary, segments = whole
    trajectory = read_trajectory(path / "trajectory.h5")
    assert trajectory.step.tolist() == list(range(301))
    history = segments[-1].state.history
    labels = read_labels(path / "labels.extxyz")
    assert [r.index for r in history] == list(range(len(labels)))
    assert [r.step for r in history] == [stored.step for stored in labels]
    assert [r for s in segments for r in s.labels] == list(history)
    assert summary.error.force_mae_meV_A < 10


def test_segments_have_a_label_at_the_end_of_each_gap(whole):
    *_, segments = whole
    wide = [s for s in segments if sum(r.reason == "scheduled" for r in s.labels) == 3]
    assert wide
    for segment in wide:
        ends = [r.step for r in segment.labels if r.reason == "scheduled"]
        assert np.ptp(np.diff(ends)) <= 1
        assert segment.label.step == ends[-1]


def test_audits_are_of_committed_structures(whole):
    path, _, segments = whole
    trajectory = read_trajectory(path / "trajectory.h5")
    labels = read_labels(path / "labels.extxyz")
    audits = [r for s in segments for r in s.labels if r.reason == "audit"]
    assert audits
    for audit in audits:
        committed = trajectory.positions[audit.step]
        np.testing.assert_array_equal(labels[audit.index].atoms.positions, committed)
        error = np.abs(trajectory.forces[audit.step] - labels[audit.index].labels.forces).mean()
        assert audit.force_mae == pytest.approx(error, rel=1e-9)


def test_left_and_resumed_after_each_segment_it_is_the_same(tmp_path):
    source = tmp_path / "methane.yaml"
    source.write_text(
        "system: {molecule: CH4}\nengine: {kind: tblite}\n"
        "dynamics: {ensemble: langevin, steps: 300, timestep_fs: 0.5}\n"
        "policy: {force_target_meV_A: 5, gap_max: 20, labels_at_once: 3}\n"
    )
    path, whole = (
        create_run(read_config(source), source, tmp_path / name).path for name in ("left", "whole")
    )
    segments_of(whole)
    left, found, waited = 0, object(), 0
    while found is not None:
        with open_session(*read_run(path)) as session:
            records = session.records()
            found = next((record for record in records if isinstance(record, Segment)), None)
            records.close()
        left += found is not None
        waited += found is not None and found.state.waiting is not None
    assert left > 10
    assert waited > 1  # audits that are labelled after the run was resumed
    one, other = (read_trajectory(p / "trajectory.h5") for p in (path, whole))
    assert one.positions.tobytes() == other.positions.tobytes()
    one, other = (read_labels(p / "labels.extxyz") for p in (path, whole))
    assert [stored.labels.energy for stored in one] == [stored.labels.energy for stored in other]


def test_after_failures_the_run_continues_with_the_other_labels(tmp_path):
    path = make(
        tmp_path,
        calculator="flaky_calculator:Flaky",
        keywords=f"first: 4, last: 5, how: error, {MORSE}",
        policy="on_engine_failure: continue",
    )
    summary, segments = segments_of(path)
    assert summary.steps == 300
    history = segments[-1].state.history
    assert [r.index for r in history] == list(range(len(read_labels(path / "labels.extxyz"))))
    assert "going on with the model" in (path / "run.log").read_text()


def test_labels_of_a_segment_are_computed_at_the_same_time(tmp_path):
    source = tmp_path / "al.yaml"
    source.write_text(
        "system: {bulk: {name: Al, a_A: 4.05}, repeat: [2, 2, 2]}\n"
        "engine:\n  kind: ase\n  calculator: 'emt_calculators:Noted'\n"
        f"  keywords: {{file: {tmp_path / 'notes'}, seconds: 0.1}}\n"
        "dynamics: {steps: 60, timestep_fs: 2.0}\n"
        "policy: {force_target_meV_A: 5, gap_max: 10, labels_at_once: 3}\n"
    )
    run_session(*read_run(create_run(read_config(source), source, tmp_path / "run").path))
    times = [
        tuple(map(float, line.split())) for line in (tmp_path / "notes").read_text().splitlines()
    ]
    running = [sum(began <= start < ended for began, ended in times) for start, _ in times]
    assert max(running) == 3


def test_a_job_with_room_for_more_engines_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "4(x2)")
    path = make(tmp_path, at_once=1, steps=5)
    run_session(*read_run(path))
    assert "cores for 8 labels at once (policy.labels_at_once)" in (path / "run.log").read_text()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": ", residual: forecast"}, "model.residual"),
        ({"policy": "force_check: true"}, "policy.force_check"),
    ],
)
def test_what_needs_one_label_after_another_is_refused(tmp_path, changes, named):
    with pytest.raises(ConfigError, match=f"labels_at_once must be 1 with {named}"):
        make(tmp_path, **changes)

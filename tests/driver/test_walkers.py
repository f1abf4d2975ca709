"""Walkers that share one model: through the command, killed, stopped, and with a bad one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from otf.driver.state import load_state
from otf.io.labels import read_labels
from otf.io.trajectory import read_trajectory
from otf.learning.force_model import read_model

STANDINS = Path(__file__).parents[1] / "standins"
CONFIG = """\
system: {bulk: {name: Al, a_A: 4.05}, repeat: [2, 2, 2]}
engine: {kind: ase, calculator: "emt_calculators:Noted", keywords: {file: NOTES, seconds: WAIT}}
dynamics: {ensemble: csvr, steps: 150, timestep_fs: 2.0}
policy: {force_target_meV_A: 5, gap_max: 20}
walkers: {WALKERS}
"""


def written(folder: Path, *, wait: float = 0.0, walkers: str = "count: 3") -> Path:
    path = folder / "al.yaml"
    text = CONFIG.replace("NOTES", str(folder / "notes")).replace("WAIT", str(wait))
    path.write_text(text.replace("WALKERS", walkers))
    return path


def started(*words: object) -> subprocess.Popen[str]:
    paths = (str(STANDINS), os.environ.get("PYTHONPATH"))
    return subprocess.Popen(
        [sys.executable, "-m", "otf", *map(str, words)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def otf(*words: object, rc: int = 0) -> str:
    process = started(*words)
    said, error = process.communicate(timeout=300)
    assert process.returncode == rc, said + error
    assert "Traceback" not in error
    return error if rc == 1 else said


def walkers_of(run: Path) -> list[Path]:
    return sorted(run.glob("walker-?"))


def test_walkers_teach_each_other_and_each_is_a_run(tmp_path):
    said = json.loads(otf("run", written(tmp_path), "--output", tmp_path / "run", "--json"))
    assert [w["steps"] for w in said["walkers"]] == [150, 150, 150]
    walkers = walkers_of(tmp_path / "run")
    labels = [read_labels(w / "labels.extxyz") for w in walkers]
    assert said["labels"] == sum(map(len, labels)) == (tmp_path / "notes").read_text().count("\n")
    states = [load_state(w / "checkpoint.h5")[0].trainer for w in walkers]
    last = max(states, key=lambda s: len(s.order))
    assert [last.order.count(k) for k in range(3)] == list(map(len, labels))
    ends = {read_trajectory(w / "trajectory.h5").positions[-1].tobytes() for w in walkers}
    assert len(ends) == 3  # other seeds
    model = read_model(tmp_path / "run/model.h5")
    assert np.array_equal(model.theta, last.theta)
    assert (walkers[1] / "report.html").exists()
    assert "force   MAE" in otf("audit", walkers[1], "--every", 50)
    assert "walker-2" in otf("list", tmp_path)
    together = otf("analyse", "rdf", tmp_path / "run")
    assert "g_Al_Al" in together
    assert together == otf("analyse", "rdf", *walkers)
    assert "step 450 of 450" in otf("status", tmp_path / "run")
    assert "walker-0" in otf("report", tmp_path / "run", rc=1)


def overlaps(notes: Path) -> int:
    """The most that ran at a time."""
    events = []
    for line in notes.read_text().splitlines():
        began, ended = map(float, line.split())
        events += [(began, 1), (ended, -1)]
    running = most = 0
    for _, change in sorted(events):
        running += change
        most = max(most, running)
    return most


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_walker_waits_for_another_while_engines_are_free(tmp_path, at_once):
    walkers = f"count: 3, labels_at_once: {at_once}"
    otf("run", written(tmp_path, wait=0.05, walkers=walkers), "--output", tmp_path / "run")
    assert overlaps(tmp_path / "notes") == at_once


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_walkers_go_on_from_their_last_commits_and_lose_no_label(tmp_path, how):
    run = tmp_path / "run"
    command = ["run", written(tmp_path, wait=0.1), "--output", run]
    for count in (8, 20):
        process = started(*command)
        until = time.monotonic() + 120.0
        while sum(p.read_text().count("Lattice") for p in run.glob("*/labels.extxyz")) < count:
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(how)
        process.communicate(timeout=60)
        assert process.returncode == (-how if how == signal.SIGKILL else 128 + how)
        command = ["resume", run]
    before = {}
    for walker in walkers_of(run):
        committed = load_state(walker / "checkpoint.h5")[1]
        positions = read_trajectory(walker / "trajectory.h5").positions[:committed]
        before[walker] = (positions, read_labels(walker / "labels.extxyz"))
    assert "3 walkers, 450 steps in all" in otf("resume", run)
    for walker, (positions, labels) in before.items():
        now = read_trajectory(walker / "trajectory.h5").positions
        assert len(now) == 151
        assert now[: len(positions)].tobytes() == positions.tobytes()
        kept = read_labels(walker / "labels.extxyz")
        assert not (walker / "labels.unused.extxyz").exists()
        for one, other in zip(labels, kept):
            assert one.labels.forces.tobytes() == other.labels.forces.tobytes()


def test_temperatures_and_structures_of_their_own(tmp_path):
    for number in range(2):
        atoms = molecule("CH4")
        atoms.rattle(0.02, seed=number)
        ase.io.write(tmp_path / f"{number}.xyz", atoms)
    (tmp_path / "c.yaml").write_text("""\
system: {molecule: CH4}
engine: {kind: tblite}
dynamics: {ensemble: langevin, steps: 60}
walkers: {count: 2, temperatures_K: [100, 600], structures: [0.xyz, 1.xyz]}
""")
    otf("run", tmp_path / "c.yaml", "--output", tmp_path / "run")
    for number, walker in enumerate(walkers_of(tmp_path / "run")):
        first = read_trajectory(walker / "trajectory.h5").positions[0]
        given = ase.io.read(tmp_path / f"{number}.xyz").positions
        np.testing.assert_allclose(first, given, atol=1e-7)
        assert (
            f"temperature_K: {[100.0, 600.0][number]}"
            in (walker / "config.resolved.yaml").read_text()
        )
    (tmp_path / "run/EXIT").touch()
    assert "stopped by the file EXIT" in otf("resume", tmp_path / "run", "--steps", 9000, rc=75)
    otf("resume", tmp_path / "run", "--steps", 90)


def test_one_that_fails_stops_all_and_they_resume(tmp_path):
    (tmp_path / "c.yaml").write_text("""\
system: {molecule: CH4}
engine: {kind: ase, calculator: "flaky_calculator:Flaky", keywords: {first: 5, last: 5, r0: 1.1}}
dynamics: {steps: 20}
policy: {gap_max: 10}
walkers: {count: 2}
""")
    said = otf("run", tmp_path / "c.yaml", "--output", tmp_path / "run", rc=1)
    assert "walker " in said
    assert "the engine gave no label" in said
    otf("resume", tmp_path / "run")
    assert [len(read_trajectory(w / "trajectory.h5")) for w in walkers_of(tmp_path / "run")] == [
        21, 21
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("walkers", "reason"),
    [
        ("{count: 2, temperatures_K: [300]}", "1 for 2 walkers; give one for each"),
        ("{count: 2, structures: [a.xyz, b.xyz]}", "there is no file 'a.xyz'"),
        ("{count: 2}\nmodel: {residual: forecast}", "model.residual follows one trajectory"),
    ],
)
def test_what_walkers_cannot_have_is_named(tmp_path, walkers, reason):
    (tmp_path / "c.yaml").write_text(
        "system: {molecule: CH4}\nengine: {kind: tblite}\ndynamics: {steps: 10}\n"
        f"walkers: {walkers}\n"
    )
    assert reason in otf("run", tmp_path / "c.yaml", rc=1)

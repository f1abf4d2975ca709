"""Replicas that share one model: command line, kills, stops, and a failing replica."""

import contextlib
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

from otf.io.labels import read_labels
from otf.io.trajectory import read_trajectory
from otf.learning.model_file import read_model
from otf.runs.checkpoint import read_checkpoint
from tests.cli import command

EXECUTORLIB = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # about its use of pydantic
STANDINS = Path(__file__).parents[1] / "standins"
CONFIG = """\
system: {bulk: {name: Al, a_A: 4.05}, repeat: [2, 2, 2]}
engine:
  kind: ase
  calculator: "emt_calculators:Noted"
  keywords: {file: NOTES, seconds: WAIT, together: TOGETHER}
dynamics: {ensemble: csvr, steps: 150, timestep_fs: 2.0}
policy: {force_target_meV_A: 5, gap_max: 20}
replicas: {WALKERS}
"""


def written(
    folder: Path, *, wait: float = 0.0, together: int = 1, replicas: str = "count: 3"
) -> Path:
    path = folder / "al.yaml"
    text = CONFIG.replace("NOTES", str(folder / "notes")).replace("WAIT", str(wait))
    text = text.replace("TOGETHER", str(together))
    path.write_text(text.replace("WALKERS", replicas))
    return path


def started(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "otf", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def otf(*words: object, rc: int = 0) -> str:
    done = command.otf(*words, rc=rc)
    return done.stderr if rc == 1 else done.stdout


@pytest.fixture(autouse=True)
def of_processes_too(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(STANDINS), prepend=os.pathsep)


def replicas_of(run: Path) -> list[Path]:
    return sorted(run.glob("replica-?"))


@pytest.mark.full
def test_replicas_teach_each_other_and_each_is_a_run(tmp_path):
    said = json.loads(otf("run", written(tmp_path), "--output", tmp_path / "run", "--json"))
    assert [w["steps"] for w in said["replicas"]] == [150, 150, 150]
    replicas = replicas_of(tmp_path / "run")
    labels = [read_labels(w / "labels.extxyz") for w in replicas]
    assert said["labels"] == sum(map(len, labels)) == (tmp_path / "notes").read_text().count("\n")
    states = [read_checkpoint(w / "checkpoint.h5").state.trainer for w in replicas]
    last = max(states, key=lambda s: len(s.replicas))
    assert [last.replicas.count(k) for k in range(3)] == list(map(len, labels))
    ends = {read_trajectory(w / "trajectory.h5").positions[-1].tobytes() for w in replicas}
    assert len(ends) == 3  # different seeds
    model = read_model(tmp_path / "run/model.h5")
    assert np.array_equal(model.theta, last.theta)
    assert (replicas[1] / "report.html").exists()
    assert "force   MAE" in otf("audit", replicas[1], "--every", 50)
    assert "replica-2" in otf("list", tmp_path)
    together = otf("analyse", "rdf", tmp_path / "run")
    assert "g_Al_Al" in together
    assert together == otf("analyse", "rdf", *replicas)
    assert "step 450 of 450" in otf("status", tmp_path / "run")
    assert f"written: {tmp_path / 'run/report.html'}" in otf("report", tmp_path / "run")
    for words in (("audit",), ("export", "a.xyz"), ("compare", replicas[0])):
        command, *rest = words
        refused = otf(command, tmp_path / "run", *rest, rc=1)
        assert f"name one of them, such as {replicas[0]}" in refused


def overlaps(notes: Path) -> int:
    """Largest number of labels computed at the same time."""
    events = []
    for line in notes.read_text().splitlines():
        began, ended = map(float, line.split())
        events += [(began, 1), (ended, -1)]
    running = most = 0
    for _, change in sorted(events):
        running += change
        most = max(most, running)
    return most


@pytest.mark.full
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_replica_waits_for_another_while_engines_are_free(tmp_path, at_once):
    replicas = f"count: 3, labels_at_once: {at_once}"
    # The first labels wait for each other: how fast the engines start does not matter.
    config = written(tmp_path, wait=0.05, together=at_once, replicas=replicas)
    otf("run", config, "--output", tmp_path / "run")
    assert overlaps(tmp_path / "notes") == at_once


@pytest.mark.full
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_replicas_go_on_from_their_last_commits_and_lose_no_label(tmp_path, how):
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
    for replica in replicas_of(run):
        committed = read_checkpoint(replica / "checkpoint.h5").n_frames
        positions = read_trajectory(replica / "trajectory.h5").positions[:committed]
        before[replica] = (positions, read_labels(replica / "labels.extxyz"))
    assert "3 replicas, 450 steps in all" in otf("resume", run)
    for replica, (positions, labels) in before.items():
        now = read_trajectory(replica / "trajectory.h5").positions
        assert len(now) == 151
        assert now[: len(positions)].tobytes() == positions.tobytes()
        kept = read_labels(replica / "labels.extxyz")
        assert not (replica / "labels.unused.extxyz").exists()
        for one, other in zip(labels, kept):
            assert one.labels.forces.tobytes() == other.labels.forces.tobytes()


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


@pytest.mark.full
@pytest.mark.parametrize("whose", ["label", "run"])
def test_processes_of_labels_and_the_run_end_together(tmp_path, whose):
    replicas = "count: 2, backend: executorlib"
    config = written(tmp_path, wait=3.0, replicas=replicas)
    process = started("run", config, "--output", tmp_path / "run")
    until = time.monotonic() + 60.0
    while not (tmp_path / "notes").exists():  # one label is done, others are in progress
        assert time.monotonic() < until
        time.sleep(0.05)
    until = time.monotonic() + 60.0
    if whose == "run":
        os.kill(process.pid, signal.SIGKILL)
    while whose == "label" and process.poll() is None:  # one may have answered already
        assert time.monotonic() < until
        for child in children(process.pid)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(1.0)
    error = process.communicate(timeout=60)[1]  # returns when all writers have ended
    if whose == "label":
        assert process.returncode == 1
        assert "the process that labelled ended without an answer" in error
        assert "labels_at_once" in error


@pytest.mark.full
@EXECUTORLIB
def test_an_engine_that_cannot_be_opened_in_a_process_says_why(tmp_path):
    config = written(tmp_path, replicas="count: 2, backend: executorlib")
    config.write_text(
        config.read_text().replace("emt_calculators:Noted", "emt_calculators:Nothing")
    )
    assert "Nothing" in otf("run", config, "--output", tmp_path / "run", rc=1)


@pytest.mark.full
@EXECUTORLIB
def test_labels_in_processes_return_their_matrices_too(tmp_path):
    pytest.importorskip("pyscf")
    (tmp_path / "h2.yaml").write_text(
        "system: {molecule: H2}\nengine: {kind: pyscf, basis: sto-3g, grid_level: 0, threads: 1}\n"
        "dynamics: {steps: 3}\npolicy: {gap_max: 1}\n"
        "replicas: {count: 2, backend: executorlib}\n"
    )
    otf("run", tmp_path / "h2.yaml", "--output", tmp_path / "run")
    for replica in replicas_of(tmp_path / "run"):
        labels = read_labels(replica / "labels.extxyz")
        assert len(list((replica / "matrices").glob("0*.h5"))) == len(labels) > 2


@pytest.mark.full
def test_who_waits_for_a_free_engine_labels_nothing_after_a_stop(tmp_path):
    config = written(tmp_path, wait=1.0, replicas="count: 4, labels_at_once: 1")
    process = started("run", config, "--output", tmp_path / "run")
    until = time.monotonic() + 60.0
    while not (tmp_path / "notes").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert (tmp_path / "notes").read_text().count("\n") <= 2


def test_a_session_too_short_for_a_label_says_so(tmp_path):
    """Otherwise a batch job would requeue itself forever."""
    config = written(tmp_path, wait=1.0, replicas="count: 1")
    config.write_text(config.read_text() + "stop: {wall_time_min: 0.005}\n")
    otf("run", config, "--output", tmp_path / "run", rc=75)  # where it stops is random
    otf("resume", tmp_path / "run", rc=75)  # the noise and the first label are measured by now
    for _ in range(2):
        said = otf("resume", tmp_path / "run", rc=75)
        assert "stopped by a wall time shorter than a label takes" in said


@pytest.mark.full
def test_a_run_of_replicas_keeps_what_it_must(tmp_path):
    run = tmp_path / "run"
    config = written(tmp_path)
    text = config.read_text()
    config.write_text(text.replace("repeat: [2, 2, 2]", "repeat: [2, 2, 2], wrong: 1"))
    assert "unknown key" in otf("run", config, "--output", run, rc=1)
    config.write_text(text.replace("Noted", "Nothing"))
    assert "cannot be imported" in otf("run", config, "--output", run, rc=1)
    config.write_text(text)
    otf("run", config, "--output", run)  # a failed start is repeated
    assert "`otf resume" in otf("run", config, "--output", run, rc=1)
    assert "is one of several replicas" in otf("resume", run / "replica-1", rc=1)
    kept = run / "config.resolved.yaml"
    resolved = kept.read_text()
    for before, after, said in (
        ("count: 3", "count: 2", "there are 3 replicas; set it to 3 or more"),
        ("count: 3", "count: 1", "has replicas"),
        ("timestep_fs: 2.0", "timestep_fs: 1.0", "dynamics.timestep_fs: was 2.0 and is 1.0"),
    ):
        assert before in resolved
        kept.write_text(resolved.replace(before, after))
        assert said in otf("resume", run, rc=1)
    kept.write_text(resolved.replace("gap_max: 20", "gap_max: 5"))
    otf("resume", run, "--steps", 160)
    assert "policy.gap_max: 20 → 5" in (run / "run.log").read_text()


@pytest.mark.full
def test_temperatures_and_structures_of_their_own(tmp_path):
    for number in range(2):
        atoms = molecule("CH4")
        atoms.rattle(0.02, seed=number)
        ase.io.write(tmp_path / f"{number}.xyz", atoms)
    (tmp_path / "c.yaml").write_text("""\
system: {molecule: CH4, masses: {H: 2.014}, fixed_atoms: [0]}
engine: {kind: tblite}
dynamics: {ensemble: langevin, steps: 60}
replicas: {count: 2, temperatures_K: [100, 600], structures: [0.xyz, 1.xyz]}
""")
    otf("run", tmp_path / "c.yaml", "--output", tmp_path / "run")
    for number, replica in enumerate(replicas_of(tmp_path / "run")):
        first = read_trajectory(replica / "trajectory.h5").positions[0]
        given = ase.io.read(tmp_path / f"{number}.xyz").positions
        np.testing.assert_allclose(first, given, atol=1e-7)
        kept = ase.io.read(replica / "start.traj")
        assert kept.get_masses()[1] == 2.014
        assert kept.constraints
        assert (
            f"temperature_K: {[100.0, 600.0][number]}"
            in (replica / "config.resolved.yaml").read_text()
        )
    (tmp_path / "run/EXIT").touch()
    assert "stopped by the file EXIT" in otf("resume", tmp_path / "run", "--steps", 9000, rc=75)
    # On a busy machine one may be far ahead of the other when both stop.
    longest = max(len(read_trajectory(r / "trajectory.h5")) for r in replicas_of(tmp_path / "run"))
    otf("resume", tmp_path / "run", "--steps", longest + 30)


def test_one_that_fails_stops_all_and_they_resume(tmp_path):
    (tmp_path / "c.yaml").write_text("""\
system: {molecule: CH4}
engine: {kind: ase, calculator: "flaky_calculator:Flaky", keywords: {first: 5, last: 6, r0: 1.1}}
dynamics: {steps: 20}
policy: {gap_max: 10}
replicas: {count: 2}
""")
    said = otf("run", tmp_path / "c.yaml", "--output", tmp_path / "run", rc=1)
    assert "replica " in said
    assert "the engine gave no label" in said
    otf("resume", tmp_path / "run")
    assert [len(read_trajectory(w / "trajectory.h5")) for w in replicas_of(tmp_path / "run")] == [
        21, 21
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("replicas", "reason"),
    [
        ("{count: 2, temperatures_K: [300]}", "1 for 2 replicas; give one for each"),
        ("{count: 2, structures: [a.xyz, b.xyz]}", "there is no file 'a.xyz'"),
        ("{count: 2}\nmodel: {residual: forecast}", "model.residual needs a single trajectory"),
    ],
)
def test_what_replicas_cannot_have_is_named(tmp_path, replicas, reason):
    (tmp_path / "c.yaml").write_text(
        "system: {molecule: CH4}\nengine: {kind: tblite}\ndynamics: {steps: 10}\n"
        f"replicas: {replicas}\n"
    )
    assert reason in otf("run", tmp_path / "c.yaml", rc=1)

"""The command line in real processes: exit codes and printed output."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest

from otf.io.durable import sole_owner

CONFIG = """\
system:
  molecule: H2O
engine:
  kind: tblite
dynamics:
  steps: 200
  timestep_fs: 0.5
policy:
  force_target_meV_A: 20
"""


def otf(*arguments: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otf", *map(str, arguments)],
        cwd=cwd,
        check=check,
        text=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a finished run of water.yaml."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "water.yaml").write_text(CONFIG)
    otf("run", "water.yaml", cwd=folder)
    return folder


def test_run_goes_to_its_own_directory_and_leaves_everything(folder):
    assert sorted(p.name for p in (folder / "runs/water").iterdir()) == [
        ".lock",
        "checkpoint.h5",
        "config.resolved.yaml",
        "labels.extxyz",
        "model.h5",
        "report.html",
        "run.log",
        "start.traj",
        "trajectory.h5",
    ]


def test_second_run_is_refused_and_says_how_to_go_on(folder):
    refused = otf("run", "water.yaml", cwd=folder, check=False)
    assert refused.returncode == 1
    assert "`otf resume runs/water` continues it" in refused.stderr
    assert "--output" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.full
def test_resume_of_a_finished_run_changes_nothing(folder):
    before = (folder / "runs/water/labels.extxyz").read_bytes()
    out = otf("resume", "runs/water", cwd=folder).stdout
    assert "200 of 200 steps" in out
    assert (folder / "runs/water/labels.extxyz").read_bytes() == before


@pytest.mark.full
def test_resume_makes_a_run_longer(folder, tmp_path):
    shutil.copytree(folder / "runs/water", tmp_path / "w")
    assert "230 of 230 steps" in otf("resume", "w", "--steps", 230, cwd=tmp_path).stdout
    assert "230 of 230 steps" in otf("resume", "w", cwd=tmp_path).stdout


def test_another_timestep_is_refused(folder, tmp_path):
    shutil.copytree(folder / "runs/water", tmp_path / "w")
    config = tmp_path / "w/config.resolved.yaml"
    config.write_text(config.read_text().replace("timestep_fs: 0.5", "timestep_fs: 0.25"))
    refused = otf("resume", "w", cwd=tmp_path, check=False)
    assert refused.returncode == 1
    assert "dynamics.timestep_fs: was 0.5 and is 0.25 now; a run keeps it" in refused.stderr


def test_failed_start_leaves_no_directory_in_the_way(tmp_path):
    (tmp_path / "c.yaml").write_text(
        CONFIG.replace("molecule: H2O", "bulk: {name: Si}").replace("tblite", "pyscf")
    )
    refused = otf("run", "c.yaml", cwd=tmp_path, check=False)
    assert "molecules only" in refused.stderr
    assert not (tmp_path / "runs").exists()


def test_audit_reports_true_errors(folder):
    report = json.loads(otf("audit", "runs/water", "--every", 20, "--json", cwd=folder).stdout)
    assert report["frames"] == len(report["per_frame"]) > 5
    assert 0 < report["force_mae_meV_A"] < 20
    assert "MAE" in otf("audit", "runs/water", cwd=folder).stdout


@pytest.mark.full
def test_summary_as_json_and_in_words(folder, tmp_path):
    out = otf("run", "water.yaml", "--json", "--output", tmp_path / "j", cwd=folder).stdout
    summary = json.loads(out)
    assert summary["steps"] == 200
    assert summary["labels"] < 60
    assert summary["level"] == "semi-empirical"
    words = otf("resume", tmp_path / "j", cwd=folder).stdout
    assert "by tblite (semi-empirical)" in words
    assert f"labels      {summary['labels']}" in words


@pytest.mark.full
def test_resolved_config_repeats_the_run(folder, tmp_path):
    resolved = folder / "runs/water/config.resolved.yaml"
    otf("run", resolved, "--output", tmp_path / "again", cwd=folder)
    one, other = (p / "labels.extxyz" for p in (folder / "runs/water", tmp_path / "again"))
    strip = [[w for w in p.read_text().split() if "wall_s" not in w] for p in (one, other)]
    assert strip[0] == strip[1]


def test_broken_config_exits_1_with_every_problem(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG.replace("steps", "stepz").replace("20\n", "-20\n"))
    refused = otf("run", "c.yaml", cwd=tmp_path, check=False)
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        "c.yaml:6:3: dynamics.stepz: unknown key, did you mean 'steps'?",
        "c.yaml:9:23: policy.force_target_meV_A: input should be greater than 0, found -20",
    ]
    assert not (tmp_path / "runs").exists()


@pytest.mark.full
def test_init_writes_a_config_that_runs_and_never_overwrites(tmp_path):
    assert "otf run first.yaml" in otf("init", "first", cwd=tmp_path).stdout
    config = tmp_path / "first.yaml"
    config.write_text(config.read_text().replace("steps: 20000", "steps: 5"))
    otf("run", "first.yaml", cwd=tmp_path)
    refused = otf("init", "first", cwd=tmp_path, check=False)
    assert refused.returncode == 1
    assert "already exists" in refused.stderr


@pytest.mark.full
def test_changed_settings_are_taken_over_or_refused_by_name(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder / "runs/water", run)
    config = run / "config.resolved.yaml"
    text = config.read_text().replace("steps: 200", "steps: 220")
    config.write_text(text.replace("seed: 1", "seed: 2").replace("l_max", "#"))
    refused = otf("resume", run, cwd=tmp_path, check=False)
    assert refused.returncode == 1
    assert "config.resolved.yaml: dynamics.seed: was 1 and is 2 now; a run keeps it" in (
        refused.stderr
    )
    config.write_text(text.replace("force_target_meV_A: 20.0", "force_target_meV_A: 10.0"))
    assert "220 of 220 steps" in otf("resume", run, cwd=tmp_path).stdout
    log = (run / "run.log").read_text()
    assert "changed: policy.force_target_meV_A: 20.0 → 10.0" in log
    assert "changed: dynamics.steps: 200 → 220" in log


STOP = CONFIG.replace("steps: 200", "steps: 100000")


@pytest.mark.full
def test_enough_labels_end_a_run_well(tmp_path):
    (tmp_path / "job.yaml").write_text(STOP + "stop:\n  labels: 5\n")
    done = otf("run", "job.yaml", cwd=tmp_path)
    assert "ended with enough labels" in done.stdout
    assert "labels      5 by tblite" in done.stdout


def test_file_named_exit_stops_a_run_at_a_commit(tmp_path):
    (tmp_path / "job.yaml").write_text(STOP)
    process = subprocess.Popen(
        [sys.executable, "-m", "otf", "run", "job.yaml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = tmp_path / "runs/job"
    while not (run / "checkpoint.h5").exists():
        assert process.poll() is None
        time.sleep(0.01)
    (run / "EXIT").touch()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "stopped by the file EXIT; `otf resume runs/job` continues it" in out
    assert not (run / "EXIT").exists()


@pytest.mark.full
def test_wall_time_stops_a_run_at_a_commit(tmp_path):
    (tmp_path / "job.yaml").write_text(STOP + "stop:\n  wall_time_min: 0.05\n")
    stopped = otf("run", "job.yaml", cwd=tmp_path, check=False)
    assert stopped.returncode == 75
    assert "stopped by the wall time" in stopped.stdout
    again = otf("resume", "runs/job", cwd=tmp_path, check=False)
    assert again.returncode == 75
    done = json.loads(otf("resume", "runs/job", "--json", cwd=tmp_path, check=False).stdout)
    assert 0 < done["steps"] < 100000


def test_schema_is_json(tmp_path):
    schema = json.loads(otf("schema", cwd=tmp_path).stdout)
    assert set(schema["properties"]) == {
        "system", "engine", "dynamics", "model", "policy", "stop", "output", "cluster", "replicas",
        "learn_from",
    }  # fmt: skip


def test_doctor_lists_the_engines(tmp_path):
    report = json.loads(otf("doctor", "--json", cwd=tmp_path).stdout)
    assert set(report["engines"]) == {
        "ase", "d3", "d4", "ipi", "openmx", "pyscf", "siesta", "tblite", "zbl",
    }  # fmt: skip
    assert report["engines"]["tblite"]["available"]
    assert "tblite" in otf("doctor", cwd=tmp_path).stdout


def test_doctor_tries_a_job_out(tmp_path):
    (tmp_path / "job.yaml").write_text(CONFIG)
    out = otf("doctor", "job.yaml", cwd=tmp_path).stdout
    assert out == "ok       tblite can start with H2O, 3 atoms\n"
    trial = json.loads(otf("doctor", "job.yaml", "--try", "--json", cwd=tmp_path).stdout)
    assert trial["energy_eV"] < -100
    assert trial["noise_meV_A"] < 1e-3  # no real-space grid
    refused = otf("doctor", "--try", cwd=tmp_path, check=False)
    assert "--try needs a CONFIG" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


def test_doctor_names_the_file_that_shadows_an_engine(tmp_path):
    (tmp_path / "otf_ase.py").write_text("")
    out = otf("doctor", cwd=tmp_path).stdout  # python -m puts the current folder first
    assert f"'otf_ase' is taken from {tmp_path / 'otf_ase.py'}" in out
    assert "rename or move that file" in out


def test_misspelt_command_is_guessed(tmp_path):
    refused = otf("resum", cwd=tmp_path, check=False)
    assert refused.returncode == 2
    assert "did you mean 'resume'?" in refused.stderr


def test_resume_of_nothing_is_named(tmp_path):
    refused = otf("resume", "nowhere", cwd=tmp_path, check=False)
    assert refused.returncode == 1
    assert "nowhere: is not a run of otf" in refused.stderr


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from otf.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numba', 'ase', 'h5py', 'scipy', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_run_directories_of_the_time_before_replicas_are_refused_by_name(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.resolved.yaml").write_text(CONFIG + "walkers: {count: 1}\n")
    error = otf("resume", run, cwd=tmp_path, check=False).stderr
    assert "before 0.1" in error
    assert "start a new run" in error


def test_an_audit_keeps_its_labels_and_continues(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder / "runs/water", run)
    kept = run / "labels.audit.extxyz"
    kept.unlink(missing_ok=True)
    first = json.loads(otf("audit", run, "--every", 40, "--json", cwd=folder).stdout)
    written = kept.read_bytes()
    assert written.count(b"Properties") == first["frames"]
    again = json.loads(otf("audit", run, "--every", 40, "--json", cwd=folder).stdout)
    assert kept.read_bytes() == written  # nothing is computed twice
    assert again == first
    finer = json.loads(otf("audit", run, "--every", 20, "--json", cwd=folder).stdout)
    assert kept.read_bytes().startswith(written)
    assert kept.read_bytes().count(b"Properties") == finer["frames"] > first["frames"]
    kept.unlink()
    beside = ("--every", 20, "--at-once", 3, "--json")
    together = json.loads(otf("audit", run, *beside, cwd=folder).stdout)
    assert kept.read_bytes().count(b"Properties") == finer["frames"]
    assert [f["step"] for f in together["per_frame"]] == [f["step"] for f in finer["per_frame"]]
    assert together["force_mae_meV_A"] == pytest.approx(finer["force_mae_meV_A"], abs=0.1)  # of SCF


@pytest.mark.full
def test_a_label_is_dropped_and_the_run_goes_on(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder / "runs/water", run)
    before = ase.io.read(run / "labels.extxyz", ":")
    listed = otf("labels", run, cwd=folder).stdout.splitlines()
    assert len(listed) == 2 + len(before)
    said = otf("labels", run, "--drop", 3, "--reason", "it is odd", cwd=folder).stdout
    assert "labels.quarantine.extxyz" in said
    rest = ase.io.read(run / "labels.extxyz", ":")
    assert [a.info["label"] for a in rest] == list(range(len(before) - 1))
    np.testing.assert_array_equal(rest[3].positions, before[4].positions)
    kept = ase.io.read(run / "labels.quarantine.extxyz")
    assert kept.info["not_learned"] == "it is odd"
    np.testing.assert_array_equal(kept.positions, before[3].positions)
    more = json.loads(otf("resume", run, "--steps", 240, "--json", cwd=folder).stdout)
    assert more["steps"] == 240
    assert more["labels"] > len(rest)
    for index, said in ((0, "cannot be dropped"), (999, "there is no label 999")):
        refused = otf("labels", run, "--drop", index, cwd=folder, check=False)
        assert refused.returncode == 1
        assert said in refused.stderr


def test_a_run_is_not_shortened_and_not_changed_while_it_runs(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder / "runs/water", run)
    config = (run / "config.resolved.yaml").read_bytes()
    refused = otf("resume", run, "--steps", 5, cwd=folder, check=False)
    assert "has 200 steps already; --steps 5 is fewer" in refused.stderr
    with sole_owner(run / ".lock"):
        refused = otf("resume", run, "--steps", 300, cwd=folder, check=False)
    assert "another otf is running here" in refused.stderr
    assert (run / "config.resolved.yaml").read_bytes() == config

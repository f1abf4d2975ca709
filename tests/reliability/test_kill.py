"""kill -9 at random times, resumed until complete: bitwise identical, no label repeated."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

pytestmark = pytest.mark.full  # takes minutes

CONFIG = """\
system:
  molecule: CH4
engine:
  kind: {engine}
dynamics:
  ensemble: {ensemble}
  steps: 4000
  timestep_fs: 0.5
  bias: {bias}
policy:
  force_target_meV_A: {target}
  gap_max: 60
  labels_at_once: {at_once}
"""


HILLS = """\
{kind: metadynamics, along: [{angle: [1, 0, 2], width_degrees: 3}], height_meV: 5, every_fs: 10}
"""
SERVER = """\
system:
  molecule: CH4
engine:
  kind: siesta
  command: {python} {standin} slow {memory}
  pseudo_path: {memory}
dynamics:
  steps: 60
  timestep_fs: 0.5
"""


def server_config(folder: Path) -> str:
    """Configuration of a run with the stand-in for SIESTA, and its files."""
    for name in ("C.psf", "H.psf", "calls"):
        (folder / name).write_text("")
    standin = Path(__file__).parents[1] / "standins" / "fake_siesta.py"
    return SERVER.format(python=sys.executable, standin=standin, memory=folder)


def otf(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "otf", *map(str, arguments)]


def datasets(path: Path) -> dict[str, bytes]:
    out = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                out.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return out


def labels(path: Path) -> list[str]:
    """The labels without their wall times."""
    lines = (path / "labels.extxyz").read_text().splitlines()
    return [" ".join(w for w in line.split() if not w.startswith("wall_s")) for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Uninterrupted runs: of each ensemble with tblite, and of a DFT program run as a server."""
    made = {}

    def run(job: str) -> tuple[Path, Path]:
        if job not in made:
            folder = tmp_path_factory.mktemp(job)
            config = folder / "config.yaml"
            if job == "siesta":
                config.write_text(server_config(folder))
            else:
                text = CONFIG.format(
                    engine="tblite",
                    ensemble="nve" if job == "at once" else job,
                    target=5,
                    bias=HILLS if job == "langevin" else "[]",
                    at_once=3 if job == "at once" else 1,
                )
                config.write_text(text if job != "slhmc" else text.replace("4000", "150"))
            subprocess.run(otf("run", config, "--output", folder / "run"), check=True)
            made[job] = (config, folder / "run")
        return made[job]

    return run


def written(path: Path) -> int:
    """Number of labels on disk."""
    file = path / "labels.extxyz"
    return file.read_bytes().count(b"Properties=") if file.exists() else 0


def interrupted(command: list[str], path: Path, wanted: int, wait_s: float) -> bool:
    """Run until ``wanted`` labels and ``wait_s`` longer, then kill; False if it had ended."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None and written(path) < wanted:
            time.sleep(0.002)
        time.sleep(wait_s)
        if process.poll() is None:
            process.kill()
        _, error = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), error.decode()
    return process.returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "job",
    [
        "langevin",
        "slhmc",
        "siesta",
        "at once",
        *(pytest.param(job, marks=pytest.mark.thorough) for job in ("nve", "csvr")),
    ],
)
def test_killed_and_resumed_runs_equal_the_undisturbed_one(tmp_path, undisturbed, job, long):
    """Kills while predicting, labelling, writing or resuming; 15 in total, or 250 with --long."""
    config, reference = undisturbed(job)
    total, kills, rng = written(reference), 0, random.Random(job)
    while kills < (50 if long else 5):
        path = tmp_path / f"run-{kills}"
        command = otf("run", config, "--output", path)
        if rng.random() < 0.2:  # before the run has started
            kills += interrupted(command, path, 0, rng.uniform(0.3, 1.5))
            command = otf("resume", path) if written(path) else command
        while interrupted(
            command, path, written(path) + rng.randint(1, max(1, total // 3)), rng.uniform(0, 0.1)
        ):
            kills += 1
            command = otf("resume", path)
        assert datasets(path / "trajectory.h5") == datasets(reference / "trajectory.h5")
        assert labels(path) == labels(reference)


def test_killed_server_and_killed_otf_cost_no_label(tmp_path):
    """kill -9 of the program during a label, then of otf: equal to the uninterrupted run."""
    config = tmp_path / "config.yaml"
    config.write_text(server_config(tmp_path))
    reference, path = tmp_path / "reference", tmp_path / "run"
    subprocess.run(otf("run", config, "--output", reference), check=True, capture_output=True)
    process = subprocess.Popen(
        otf("run", config, "--output", path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    for wanted in (2, 4):
        while written(path) < wanted:
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(0.1)  # halfway through the next label
        os.kill(int((tmp_path / "calls").read_text().split()[-1]), signal.SIGKILL)
    while written(path) < 5:
        assert process.poll() is None
        time.sleep(0.002)
    time.sleep(0.1)
    process.kill()
    process.communicate()
    resumed = subprocess.run(otf("resume", path), check=True, capture_output=True, text=True)
    assert "killed: ended by signal 9" in (path / "run.log").read_text()
    assert "60 of 60 steps" in resumed.stdout
    assert datasets(path / "trajectory.h5") == datasets(reference / "trajectory.h5")
    assert labels(path) == labels(reference)


def test_bits_do_not_depend_on_the_number_of_threads(tmp_path):
    shipped = Path(__file__).parents[2] / "configs"
    text = (shipped / "nitrobenzene.yaml").read_text().replace("steps: 4000", "steps: 100")
    config = tmp_path / "config.yaml"
    config.write_text(text.replace("nitrobenzene.xyz", str(shipped / "nitrobenzene.xyz")))
    for threads in "12":
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = otf("run", config, "--output", tmp_path / threads)
        subprocess.run(command, check=True, capture_output=True, env=environment)
    assert labels(tmp_path / "1") == labels(tmp_path / "2")


def test_two_processes_do_not_share_a_run(tmp_path, undisturbed):
    config, _ = undisturbed("nve")
    path = tmp_path / "run"
    process = subprocess.Popen(otf("run", config, "--output", path), stderr=subprocess.PIPE)
    while not (path / "checkpoint.h5").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # it must not end before the other one starts
    refused = subprocess.run(otf("resume", path), check=False, capture_output=True, text=True)
    process.kill()
    process.communicate()
    assert refused.returncode == 1
    assert "another otf is running here" in refused.stderr
    subprocess.run(otf("resume", path), check=True, capture_output=True)  # the lock is released


def test_sigterm_stops_at_a_commit_and_the_run_resumes(tmp_path, undisturbed):
    config, reference = undisturbed("nve")
    path = tmp_path / "run"
    process = subprocess.Popen(
        otf("run", config, "--output", path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not (path / "checkpoint.h5").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"stopped by SIGTERM; `otf resume" in out
    subprocess.run(otf("resume", path), check=True, capture_output=True)
    assert datasets(path / "trajectory.h5") == datasets(reference / "trajectory.h5")

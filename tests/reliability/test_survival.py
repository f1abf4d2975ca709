"""Full disks, read-only disks, and disks that lose acknowledged writes."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from otf.io.trajectory import read_trajectory

pytestmark = pytest.mark.full  # takes minutes

CONFIG = """\
system: {molecule: CH4}
engine: {kind: tblite}
dynamics: {ensemble: csvr, steps: 2500, timestep_fs: 0.5}
policy: {force_target_meV_A: 5, gap_max: 60}
"""
IN_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-ec"]


def otf(*arguments: object, largest_kB: int | None = None) -> subprocess.CompletedProcess[str]:
    def little_room() -> None:
        if largest_kB is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_kB << 10, largest_kB << 10))

    return subprocess.run(
        [sys.executable, "-m", "otf", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=little_room,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    assert otf("run", config, "--output", folder / "run").returncode == 0
    return config, folder / "run"


def same(one: Path, other: Path) -> bool:
    a, b = (read_trajectory(path / "trajectory.h5") for path in (one, other))
    return all(
        getattr(a, name).tobytes() == getattr(b, name).tobytes()
        for name in ("positions", "velocities", "conserved_energy")
    )


@pytest.mark.parametrize(
    "largest_kB",
    [0, 16, 280, *(pytest.param(size, marks=pytest.mark.thorough) for size in (1, 8, 100, 800))],
)
def test_files_that_cannot_grow_stop_the_run_and_it_resumes(tmp_path, undisturbed, largest_kB):
    """The file size limit of the system acts like a full disk."""
    config, reference = undisturbed
    path = tmp_path / "run"
    for command in (("run", config, "--output", path), ("resume", path)):
        stopped = otf(*command, largest_kB=largest_kB)
        assert stopped.returncode == 1
        assert "Traceback" not in stopped.stderr
        assert stopped.stderr.splitlines()[-1].startswith("otf: ")
        if not (path / "config.resolved.yaml").exists():
            break
        assert "then resume the run" in stopped.stderr or "nothing that was" in stopped.stderr
    paid = (path / "labels.extxyz").exists() and (path / "labels.extxyz").stat().st_size > 0
    again = otf("resume", path) if paid else otf("run", config, "--output", path)
    assert again.returncode == 0, again.stderr
    assert same(path, reference)
    assert not list(path.glob("*.new"))


def mounted(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a namespace that allows mounting a file system on ``folder``."""
    folder.mkdir()
    if subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let users mount a file system")
    environment = os.environ | {"DISK": str(folder), "OTF": f"{sys.executable} -m otf"}
    return subprocess.run(
        [*IN_A_NAMESPACE, script], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("size_kB", [12, 60, pytest.param(300, marks=pytest.mark.thorough)])
def test_full_disk(tmp_path, undisturbed, size_kB):
    config, reference = undisturbed
    done = mounted(
        tmp_path / "disk",
        f"""
        mount -t tmpfs -o size={size_kB}k tmpfs $DISK
        ! $OTF run {config} --output $DISK/run
        ! $OTF resume $DISK/run
        mount -o remount,size=50M $DISK
        $OTF resume $DISK/run
        cp -r $DISK/run {tmp_path / "kept"}
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("No space left on device") == done.stderr.count("make room") == 2
    assert "Traceback" not in done.stderr
    assert same(tmp_path / "kept", reference)


def test_directory_that_can_only_be_read(tmp_path, undisturbed):
    config, reference = undisturbed
    done = mounted(
        tmp_path / "disk",
        f"""
        mount -t tmpfs -o size=50M tmpfs $DISK
        cp -r {reference} $DISK/run
        mount -o remount,ro $DISK
        ! $OTF run {config} --output $DISK/other
        ! $OTF resume $DISK/run --steps 2600
        $OTF audit $DISK/run --every 2000
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    first, second = [line for line in done.stderr.splitlines() if line.startswith("otf: ")]
    assert "other: cannot be made (Read-only file system)" in first
    assert "Read-only file system" in second
    assert "force" in done.stdout


@pytest.mark.parametrize("lost", ["checkpoint.h5", "trajectory.h5", "labels.extxyz"])
def test_a_write_the_server_lost_is_noticed_and_repaired_by_what_the_error_says(
    tmp_path, undisturbed, lost
):
    """A network file system may lose an acknowledged write; an older state reappears."""
    config, reference = undisturbed
    path = tmp_path / "run"
    text = config.read_text() + "stop: {labels: 12}\n"
    short = tmp_path / "short.yaml"
    short.write_text(text)
    assert otf("run", short, "--output", path).returncode == 0
    old = tmp_path / "old"
    shutil.copytree(path, old)
    resolved = path / "config.resolved.yaml"
    resolved.write_text(resolved.read_text().replace("labels: 12", "labels: 20"))
    assert otf("resume", path).returncode == 0
    resolved.write_text(resolved.read_text().replace("labels: 20", "labels: 9999"))
    if (old / lost).exists():
        shutil.copy(old / lost, path / lost)
    else:
        (path / lost).unlink(missing_ok=True)
    again = otf("resume", path)
    if again.returncode:
        assert "Traceback" not in again.stderr
        assert "checkpoint.h5" in again.stderr or "labels file" in again.stderr
        (path / "checkpoint.h5").unlink()
        again = otf("resume", path)
    assert again.returncode == 0, again.stderr
    assert same(path, reference)
    assert np.array_equal(read_trajectory(path / "trajectory.h5").step, np.arange(2501))

"""Run directories and configurations of other people, and file systems without locks."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from otf.config import read_config
from otf.errors import ConfigError, EngineError, FileError, RunError
from otf.io.array_file import read_arrays, write_arrays
from otf.io.durable import UNFINISHED, replace_file, sole_owner
from otf.io.runlog import LOGGER, run_log
from otf.postprocess.doctor import try_job
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.session import run_session
from otf.runs.trust import check_trusted

CONFIG = """\
system: {molecule: H2O}
engine: {kind: ase, calculator: "%s"}
dynamics: {steps: 3, timestep_fs: 0.5}
"""
OWN = """\
from ase.calculators.emt import EMT

class Mine(EMT):
    implemented_properties = ["energy", "forces"]

def made(scale: float = 1.0) -> EMT:
    return EMT()

def shown():
    print("this must not be called")
"""


ALIASES = "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


def otf(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "otf", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def written(folder: Path, calculator: str) -> Path:
    source = folder / "a.yaml"
    source.write_text(CONFIG % calculator)
    return source


@pytest.mark.parametrize("name", ["Mine", "made"])
def test_a_calculator_beside_the_configuration_becomes_part_of_the_run(tmp_path, name):
    (tmp_path / "mycalc.py").write_text(OWN)
    source = written(tmp_path, f"mycalc:{name}")
    run = create_run(read_config(source), source, tmp_path / "run").path
    (tmp_path / "mycalc.py").unlink()  # the run has its own copy
    sys.modules.pop("mycalc", None)
    assert (run / "engine_module.py").read_text() == OWN
    assert run_session(*read_run(run)).steps == 3


@pytest.mark.parametrize("name", ["subprocess:getoutput", "os:system", "mycalc:shown", "os:path"])
def test_what_makes_no_calculator_is_not_called(tmp_path, capsys, name):
    (tmp_path / "mycalc.py").write_text(OWN)
    with pytest.raises(EngineError, match="is not an ASE calculator"):
        try_job(written(tmp_path, name), compute=False)
    assert capsys.readouterr().out == ""


@pytest.mark.full
def test_the_engine_of_another_users_directory_needs_consent(tmp_path):
    source = written(tmp_path, "ase.calculators.emt:EMT")
    config = read_config(source)
    check_trusted(config, source, trusted=False)
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(source, 12345, 12345)
    with pytest.raises(RunError, match=r"calculator 'ase\.calculators\.emt:EMT'.*--trust"):
        check_trusted(config, source, trusted=False)
    check_trusted(config, source, trusted=True)
    run = create_run(config, source, tmp_path / "run").path
    os.chown(run / "config.resolved.yaml", 12345, 12345)
    for command in (["resume"], ["audit"]):
        refused = subprocess.run(
            [sys.executable, "-m", "otf", *command, str(run)], capture_output=True, text=True
        )
        assert refused.returncode == 1
        assert "--trust" in refused.stderr
    assert (
        subprocess.run([sys.executable, "-m", "otf", "resume", str(run), "--trust"]).returncode == 0
    )


def test_nothing_is_written_through_a_symbolic_link(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("lock", "run.log", f"report.html{UNFINISHED}"):
        (tmp_path / name).symlink_to(precious)
    with pytest.raises(FileError, match="symbolic link"), sole_owner(tmp_path / "lock"):
        pass
    with pytest.raises(FileError, match="symbolic link"), run_log(tmp_path / "run.log"):
        LOGGER.info("written")
    page = tmp_path / "report.html"
    replace_file(page, lambda aside: aside.write_text("page"))
    assert page.read_text() == "page"
    page.unlink()
    page.symlink_to(precious)
    replace_file(page, lambda aside: aside.write_text("page"))
    assert not page.is_symlink()
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_runs(tmp_path, monkeypatch, caplog, number):
    """The locks of HDF5 are off, and our own are warned of."""

    def without_locks(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    opened = []
    real = h5py.File.__init__

    def noted(self, name, *arguments, **keywords):
        if isinstance(name, str | Path) and keywords.get("driver") != "core":
            opened.append(keywords.get("locking"))
        real(self, name, *arguments, **keywords)

    monkeypatch.setattr(h5py.File, "__init__", noted)
    source = written(tmp_path, "ase.calculators.emt:EMT")
    run = create_run(read_config(source), source, tmp_path / "run").path
    assert run_session(*read_run(run)).steps == 3
    assert opened == []  # by name, which HDF5 would lock
    assert "never run two otf processes here at once" in caplog.text


def test_a_file_that_declares_more_than_it_holds_is_damaged(tmp_path):
    path = tmp_path / "model.h5"
    write_arrays(path, "model", {}, {"a": np.zeros(3)})
    with h5py.File(path, "r+") as file:
        del file["arrays"]["a"]
        file["arrays"].create_dataset("a", (10**12,), chunks=(1000,), dtype=float)
    with pytest.raises(FileError, match=r"declares 8e\+12 bytes, more than it can hold"):
        read_arrays(path, "model")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply|levels"),
        (f"a: &a [{','.join('1' * 10)}]\n" + ALIASES, "more than 100000 values"),
        ("a: " + "x" * 2_000_000, "longer than 1000000 characters"),
    ],
    ids=["nesting", "aliases", "length"],
)  # fmt: skip
def test_configurations_that_would_fill_the_memory_are_refused(tmp_path, text, said):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "line",
    ["account: 'a; rm -rf x'", 'partition: "a\\nb"', 'modules: ["a && b"]', 'lines: ["a\\nb"]'],
)
def test_what_would_become_another_command_of_a_batch_job_is_refused(tmp_path, line):
    source = written(tmp_path, "ase.calculators.emt:EMT")
    source.write_text(source.read_text() + f"cluster: {{{line}}}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:4:\d+: cluster\."):
        read_config(source)


HANGING = """\
import time
from ase.calculators.emt import EMT

class Hanging(EMT):
    calls = 0

    def calculate(self, *arguments, **keywords):
        Hanging.calls += 1
        while Hanging.calls > 4:
            time.sleep(0.1)
        super().calculate(*arguments, **keywords)
"""


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_run_whose_engine_hangs(tmp_path, number):
    (tmp_path / "hanging.py").write_text(HANGING)
    source = written(tmp_path, "hanging:Hanging")
    source.write_text(source.read_text().replace("steps: 3", "steps: 30"))
    process = subprocess.Popen(
        [sys.executable, "-m", "otf", "run", str(source), "--output", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    labels = tmp_path / "run" / "labels.extxyz"
    while not labels.exists() or labels.read_text().count("provenance") < 2:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1.0)  # it hangs in the next label
    process.send_signal(number)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode in (128 + number, 1)
    assert "another one ends at once" in said
    resumed = tmp_path / "run" / "engine_module.py"
    resumed.write_text(resumed.read_text().replace("> 4", "> 10**6"))
    assert otf("resume", tmp_path / "run").returncode == 0


def test_what_a_killed_run_left_is_removed_and_what_another_process_writes_is_not(tmp_path):
    source = written(tmp_path, "ase.calculators.emt:EMT")
    run = create_run(read_config(source), source, tmp_path / "run").path
    left, written_now = (
        run / f"{name}.123-456{UNFINISHED}" for name in ("trajectory.h5", "report.html")
    )
    for path in (left, written_now):
        path.touch()
    run_session(*read_run(run))
    assert not left.exists()
    assert written_now.exists()

"""Commands that start MPI ranks, outside and inside a job, and requests that are refused."""

import sys
from pathlib import Path

import pytest

from otf.engines.launch import LaunchOptions, launch
from otf.errors import EngineError


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with only these programs."""

    def make(*names: str) -> None:
        for name in names:
            path = tmp_path / name
            path.write_text("#!/bin/sh\n")
            path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return make


JOB = {"SLURM_JOB_ID": "5", "SLURM_JOB_CPUS_PER_NODE": "4(x2)", "SLURM_JOB_NODELIST": "n[1-2]"}


def options(**changes) -> LaunchOptions:
    return LaunchOptions.model_validate({"command": "siesta -x", "ranks": 4} | changes)


def test_a_command_without_ranks_is_left_alone(programs):
    programs("mpirun")
    found = launch(options(command="mpirun -np 4 siesta", ranks=None), JOB)
    assert found.words == ["mpirun", "-np", "4", "siesta"]
    assert found.environment == {}


def test_ranks_are_started_by_what_is_there(programs):
    programs("siesta", "mpiexec")
    assert launch(options(), {}).words == ["mpiexec", "-n", "4", "siesta", "-x"]
    programs("mpirun", "srun")
    assert launch(options(), {}).words == ["mpirun", "-n", "4", "siesta", "-x"]
    inside = launch(options(threads=2), JOB)
    assert inside.words[0] == "srun"
    assert {"--exact", "--ntasks=4", "--cpus-per-task=2"} < set(inside.words)
    assert inside.words[-2:] == ["siesta", "-x"]
    assert inside.environment["OMP_NUM_THREADS"] == "2"
    assert inside.environment["OMPI_MCA_hwloc_base_binding_policy"] == "none"
    mine = launch(options(launcher="mpirun --bind-to core"), JOB).words
    assert mine[:5] == ["mpirun", "--bind-to", "core", "-n", "4"]


def test_what_cannot_be_started_says_why(programs):
    programs("siesta")
    with pytest.raises(EngineError, match="neither mpirun nor mpiexec"):
        launch(options(), {})
    with pytest.raises(EngineError, match=r"engine.launcher: 'jsrun' is not found"):
        launch(options(launcher="jsrun"), {})
    with pytest.raises(
        EngineError, match=r"need 12 cores, but the allocation is Slurm job 5: 8 cores"
    ):
        launch(options(threads=3), JOB)
    with pytest.raises(EngineError, match=r"engine.command: 'openmx' is not found"):
        launch(options(command="openmx"), {})


def test_a_full_path_needs_no_path(programs):
    programs("mpirun")
    python = str(Path(sys.executable))
    assert launch(options(command=python), {}).words[-1] == python

"""``mpirun -n P otf run``: the same run on any number of ranks; it ends when one rank dies."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from otf.io.labels import read_labels
from otf.io.trajectory import read_trajectory

pytestmark = pytest.mark.full  # MPI

STANDINS = Path(__file__).parents[1] / "standins"
MPICH = shutil.which("mpirun", path=str(Path(sys.executable).parent))
OPEN_MPI = shutil.which("mpirun", path="/usr/bin")
needs_open_mpi = pytest.mark.skipif(OPEN_MPI is None, reason="apt install openmpi-bin")
CONFIG = """\
system: {bulk: {name: Al, a_A: 4.05}, repeat: [4, 3, 3]}
engine: {kind: ase, calculator: "emt_calculators:Slow", keywords: {seconds: SECONDS}}
dynamics: {ensemble: npt, steps: 80, timestep_fs: 2.0}
policy: {force_target_meV_A: 5, gap_max: 10}
"""
MOLECULE = """\
system: {molecule: CH3CH2OH}
engine: {kind: tblite}
dynamics: {ensemble: langevin, steps: 120, timestep_fs: 0.5}
model: {sharing: environment}
"""


def started(*words: object, mpirun: str | None = MPICH, ranks: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "otf", *map(str, words)]
    options = ["--oversubscribe"] if mpirun == OPEN_MPI else []
    prefix = [mpirun, *options, "-n", str(ranks)] if ranks > 1 else []
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(STANDINS), os.environ.get("PYTHONPATH", "")]),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    if mpirun == OPEN_MPI:
        environment["MPI4PY_MPIABI"] = "openmpi"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*prefix, *command], env=environment, **pipes)


def otf(*words: object, ranks: int, mpirun: str | None = MPICH) -> str:
    process = started(*words, mpirun=mpirun, ranks=ranks)
    said, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return said


def written(folder: Path, text: str, seconds: float = 0.0) -> Path:
    path = folder / "c.yaml"
    path.write_text(text.replace("SECONDS", str(seconds)))
    return path


@pytest.fixture(scope="module", params=[CONFIG, MOLECULE], ids=["crystal", "molecule"])
def alone(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    otf("run", written(folder, request.param), "--output", folder / "run", ranks=1)
    return folder


def positions(run: Path) -> np.ndarray:
    return read_trajectory(run / "trajectory.h5").positions


@pytest.mark.parametrize(
    ("ranks", "mpirun"),
    [
        (2, MPICH),
        pytest.param(3, MPICH, marks=pytest.mark.thorough),
        pytest.param(2, OPEN_MPI, marks=needs_open_mpi),
    ],
    ids=["2", "3", "open mpi"],
)  # fmt: skip
def test_ranks_change_a_run_by_rounding_only_and_always_in_the_same_way(
    alone, tmp_path, ranks, mpirun
):
    config = alone / "c.yaml"
    twice = (ranks, mpirun) == (2, MPICH)
    if not twice and "molecule" not in config.read_text():
        pytest.skip("one system is enough here")
    for name in ("one", "other") if twice else ("one",):
        said = otf("run", config, "--output", tmp_path / name, ranks=ranks, mpirun=mpirun)
        assert said.count("check it") == 1  # only one rank prints
    one, reference = positions(tmp_path / "one"), positions(alone / "run")
    if twice:
        assert one.tobytes() == positions(tmp_path / "other").tobytes()
    # Dynamics amplifies the rounding errors of sums over ranks.
    np.testing.assert_allclose(one, reference, atol=1e-6)
    assert len(read_labels(tmp_path / "one/labels.extxyz")) == len(
        read_labels(alone / "run/labels.extxyz")
    )


def ranks_of(mpirun: int) -> dict[int, int]:
    """Process id of each rank below an mpirun of MPICH."""
    found = {}
    for path in Path("/proc").iterdir():
        try:
            environment = (path / "environ").read_bytes().split(b"\0")
            words = (path / "cmdline").read_bytes()
        except (OSError, NotADirectoryError):
            continue
        rank = [e for e in environment if e.startswith(b"PMI_RANK=")]
        mine = f"OTF_TEST_MPIRUN={mpirun}".encode()
        if rank and mine in environment and b"-m\0otf" in words:
            found[int(rank[0].split(b"=")[1])] = int(path.name)
    return found


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_ends_the_run_and_it_resumes(tmp_path, victim, monkeypatch):
    reference = tmp_path / "reference"
    otf("run", written(tmp_path, CONFIG), "--output", reference, ranks=2)
    monkeypatch.setenv("OTF_TEST_MPIRUN", str(victim + 77))
    run = tmp_path / "run"
    process = started("run", written(tmp_path, CONFIG, 0.3), "--output", run, ranks=2)
    labels, until = run / "labels.extxyz", time.monotonic() + 100.0
    while not labels.exists() or labels.read_text().count("Lattice") < 4:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(ranks_of(victim + 77)[victim], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    otf("resume", run, ranks=2)
    assert positions(run).tobytes() == positions(reference).tobytes()


def test_a_helper_that_fails_ends_all_ranks(tmp_path):
    """Otherwise the first rank would wait for its answer forever."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('PMI_RANK') == '1':\n"
        "    from otf.model.tensor_energy import TensorEnergy\n    TensorEnergy.share = None\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [MPICH, "-n", "2", sys.executable, "-m", "otf", "run", written(tmp_path, MOLECULE)]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "'NoneType' object is not callable" in done.stderr
    otf("resume", tmp_path / "runs/c", ranks=2)


def test_ranks_of_another_mpi_are_noticed(tmp_path):
    config = written(tmp_path, MOLECULE)
    done = subprocess.run(
        [sys.executable, "-m", "otf", "run", config],
        env=os.environ | {"OMPI_COMM_WORLD_SIZE": "4"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "4 ranks were started, and mpi4py sees one" in done.stderr
    assert not (tmp_path / "runs").exists()

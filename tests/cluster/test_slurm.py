"""Runs as jobs of a real Slurm, from submission to completion, with interruptions."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otf.io.labels import read_labels
from otf.io.trajectory import read_trajectory
from tests.cluster.single_node import PROGRAMS, find_program, single_node_slurm

STANDINS = Path(__file__).parents[1] / "standins"
missing = [name for name in PROGRAMS if find_program(name) is None]
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        bool(missing),
        reason=f"{', '.join(missing)} missing: apt install slurmctld slurmd slurm-client munge",
    ),
]
CONFIG = """\
system: {bulk: {name: Al, a_A: 4.05}, repeat: [2, 2, 1]}
engine: {kind: ase, calculator: "emt_calculators:Slow", keywords: {seconds: SECONDS}}
dynamics: {ensemble: csvr, steps: 60, timestep_fs: 2.0}
policy: {force_target_meV_A: 0.2, gap_max: 3}
cluster: {CLUSTER}
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    paths = (str(STANDINS), os.environ.get("PYTHONPATH"))
    with single_node_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            # Open MPI needs this to run as root in a container.
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }


@pytest.fixture
def otf(slurm, tmp_path):
    def call(*arguments: object, rc: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "otf", *map(str, arguments)],
            env=slurm,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stdout if rc == 0 else done.stderr

    return call


def written(folder: Path, *, seconds: float, cluster: str = "tasks: 1") -> Path:
    path = folder / "al.yaml"
    path.write_text(CONFIG.replace("SECONDS", str(seconds)).replace("CLUSTER", cluster))
    return path


@pytest.fixture(scope="module")
def undisturbed(slurm, tmp_path_factory):
    """The same run without Slurm and with an engine that does not wait."""
    folder = tmp_path_factory.mktemp("undisturbed")
    config = written(folder, seconds=0.0)
    subprocess.run(
        [sys.executable, "-m", "otf", "run", config, "--output", folder / "run"],
        env=slurm,
        check=True,
        capture_output=True,
    )
    return folder / "run"


def squeue(slurm, job: str) -> str:
    asked = ["squeue", "-h", "-t", "all", "-j", job, "-o", "%T"]
    return subprocess.run(asked, env=slurm, capture_output=True, text=True).stdout.strip()


def wait(slurm, job: str, *states: str, seconds: float = 240.0) -> None:
    until = time.monotonic() + seconds
    while squeue(slurm, job) not in states:
        assert time.monotonic() < until, f"job {job} is {squeue(slurm, job)}, not {states}"
        time.sleep(0.3)


def number_of(said: str) -> str:
    return said.split()[1].rstrip(":")


def assert_same(one: Path, other: Path) -> None:
    a, b = (read_trajectory(path / "trajectory.h5") for path in (one, other))
    for name in ("positions", "velocities", "conserved_energy"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
    assert len(read_labels(one / "labels.extxyz")) == len(read_labels(other / "labels.extxyz"))


def wait_for_labels(run: Path, count: int) -> None:
    until = time.monotonic() + 120.0
    labels = run / "labels.extxyz"
    while not labels.exists() or labels.read_text().count("Lattice") < count:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_submit_and_finish(otf, slurm, undisturbed, tmp_path):
    config = written(tmp_path, seconds=0.0)
    script = otf("submit", config, "--dry-run")
    assert not (tmp_path / "runs").exists()
    said = otf("submit", config)
    job, run = number_of(said), tmp_path / "runs/al"
    assert (run / "job.sh").read_text() == script
    wait(slurm, job, "COMPLETED")
    assert_same(run, undisturbed)
    assert f"Slurm job {job}: 1 cores of main on" in (run / "run.log").read_text()
    assert "60 of 60 steps" in (run / "slurm.log").read_text()
    assert otf("queue") == "no run is in the queue\n"


LONGER = {
    "requeue": "time: 0:01:00, warning_min: 0.2",
    "chain": "time: 0:01:00, warning_min: 0.2, again: chain",
    "stuck": "time: 0:01:00, warning_min: 0.2",
}


@pytest.fixture(scope="module")
def longer(slurm, tmp_path_factory):
    """Runs longer than their jobs, submitted together, after the last job has ended."""
    folder = tmp_path_factory.mktemp("longer")
    for name, cluster in LONGER.items():
        (folder / name).mkdir()
        config = written(folder / name, seconds=2.0, cluster=cluster)
        if name == "stuck":
            config.write_text(config.read_text().replace("seconds: 2.0", "seconds: 0, stuck: true"))
        submit = [sys.executable, "-m", "otf", "submit", config, "--output", folder / name / "run"]
        subprocess.run(submit, env=slurm, check=True, capture_output=True)
    until = time.monotonic() + 400.0
    while subprocess.run(["squeue", "-h"], env=slurm, capture_output=True).stdout:
        assert time.monotonic() < until
        time.sleep(1.0)
    return folder


@pytest.mark.parametrize("how", LONGER)
def test_a_run_longer_than_its_jobs_goes_on_to_the_same_end(longer, undisturbed, how):
    run = longer / how / "run"
    assert_same(run, undisturbed)
    log, slurm_log = (run / "run.log").read_text(), (run / "slurm.log").read_text()
    assert log.count("Slurm job") >= 2
    assert ("restart 1" in log) == (how != "chain")
    assert "60 of 60 steps" in slurm_log
    if how == "stuck":
        assert "the time limit of the job is reached during a label" in log
        return
    assert "stopping: " in log
    assert ("is requeued" if how == "requeue" else "follows") in slurm_log


def test_a_cancelled_run_stops_at_a_safe_point_and_can_be_submitted_again(
    otf, slurm, undisturbed, tmp_path
):
    job = number_of(otf("submit", written(tmp_path, seconds=1.0)))
    run = tmp_path / "runs/al"
    wait_for_labels(run, 3)
    line = otf("queue")
    assert line.split()[:3] == [job, "running", "main"]
    assert str(run) in line
    assert "is already in the queue" in otf("submit", run, rc=1)
    assert f"job {job} stops at its next safe point" in otf("cancel", run)
    wait(slurm, job, "FAILED")  # an interrupted job counts as failed
    assert "SIGTERM" in (run / "run.log").read_text()
    assert "has no job in the queue" in otf("cancel", run, rc=1)
    job = number_of(otf("submit", run))
    wait(slurm, job, "COMPLETED")
    assert_same(run, undisturbed)


def test_scancel_and_a_dead_job_lose_nothing(otf, slurm, undisturbed, tmp_path):
    job = number_of(otf("submit", written(tmp_path, seconds=0.5)))
    run = tmp_path / "runs/al"
    wait_for_labels(run, 3)
    subprocess.run(["scancel", job], env=slurm, check=True)
    wait(slurm, job, "CANCELLED")
    job = number_of(otf("submit", run))
    wait_for_labels(run, 8)
    subprocess.run(["scancel", "--signal=KILL", "--full", job], env=slurm, check=True)
    wait(slurm, job, "FAILED", "CANCELLED")
    otf("resume", run)
    assert_same(run, undisturbed)


def test_a_preempted_run_is_put_back_and_ends_the_same(otf, slurm, undisturbed, tmp_path):
    job = number_of(otf("submit", written(tmp_path, seconds=0.4, cluster="tasks: 8")))
    run = tmp_path / "runs/al"
    wait_for_labels(run, 3)
    urgent = ["sbatch", "--partition=urgent", "--ntasks=8", "--output=/dev/null"]
    subprocess.run([*urgent, "--wrap=sleep 2"], env=slurm, check=True, capture_output=True)
    wait(slurm, job, "PENDING", "REQUEUED")
    wait(slurm, job, "COMPLETED")
    assert_same(run, undisturbed)
    assert "restart 1" in (run / "run.log").read_text()


def test_what_cannot_run_is_refused_with_the_reason(otf, tmp_path):
    def refused(cluster: str) -> str:
        said = otf("submit", written(tmp_path, seconds=0.0, cluster=cluster), rc=1)
        assert not (tmp_path / "runs").exists()
        return said

    assert "there is no 'gpu'; choose from main, urgent" in refused("partition: gpu")
    assert "cluster.tasks: 16 of 1 threads need more than the 8 cores" in refused("tasks: 16")
    assert "cluster.nodes: 2, and 'main' has 1" in refused("nodes: 2")
    assert "model_ranks: 3, and the job has 2" in refused("model_ranks: 3, tasks: 2")
    blank = tmp_path / "my runs" / "al"
    assert "does not support blanks" in otf(
        "submit", written(tmp_path, seconds=0.0), "--output", blank, rc=1
    )
    assert not blank.exists()
    assert "longer than 'main' allows, 48 h" in refused("time: 2-01")


def test_an_array_of_runs(otf, slurm, tmp_path):
    written(tmp_path, seconds=0.0)
    script = Path(__file__).parents[2] / "examples/slurm/array.sh"
    text = script.read_text().replace("mysystem", "al").replace("module load", "# module load")
    here = f"export PATH={Path(sys.executable).parent}:$PATH"
    (tmp_path / "array.sh").write_text(
        text.replace("#SBATCH --ntasks=16", "#SBATCH --ntasks=1\n#SBATCH --array=1-3").replace(
            "set -e", f"set -e\n{here}"
        )
    )
    submitted = subprocess.run(
        ["sbatch", "--parsable", "--wait", "array.sh"],
        env=slurm, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stderr
    runs = sorted((tmp_path / "runs").iterdir())
    assert [run.name for run in runs] == ["al_1", "al_2", "al_3"]
    ends = {read_trajectory(run / "trajectory.h5").positions[-1].tobytes() for run in runs}
    assert len(ends) == 3


MPI_CONFIG = """\
system: {{molecule: CH4}}
engine:
  kind: openmx
  command: {python} {standins}/mpi_openmx.py 2 compute
  ranks: 2
  threads: 2
  launcher: {launcher}
  data_path: {data}
  basis: {{C: C6.0-s2p2d1, H: H6.0-s2p1}}
dynamics: {{steps: 3}}
cluster:
  tasks: 2
  threads: 2
  lines: {lines}
"""
OPEN_MPI = shutil.which("mpirun", path="/usr/bin")
MPICH = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
needs_open_mpi = pytest.mark.skipif(OPEN_MPI is None, reason="apt install openmpi-bin")
needs_mpich = pytest.mark.skipif(MPICH is None, reason="pip install mpich")


@pytest.mark.parametrize(
    ("launcher", "lines"),
    [
        pytest.param("srun --mpi=pmi2", "[]", marks=needs_mpich, id="srun-mpich"),
        pytest.param(
            "srun --mpi=pmix", "[export MPI4PY_MPIABI=openmpi]", marks=needs_open_mpi,
            id="srun-openmpi",
        ),
        pytest.param(MPICH, "[]", marks=needs_mpich, id="mpich"),
        pytest.param(
            OPEN_MPI, "[export MPI4PY_MPIABI=openmpi]", marks=needs_open_mpi, id="openmpi"
        ),
    ],
)  # fmt: skip
def test_an_mpi_program_within_the_job(otf, slurm, tmp_path, launcher, lines):
    (tmp_path / "data/VPS").mkdir(parents=True)
    for name, electrons in (("C", 4.0), ("H", 1.0)):
        path = tmp_path / f"data/VPS/{name}_PBE19.vps"
        path.write_text(f"valence.electron  {electrons}\n")
    config = tmp_path / "ch4.yaml"
    config.write_text(
        MPI_CONFIG.format(
            python=sys.executable,
            standins=STANDINS,
            launcher=launcher,
            data=tmp_path / "data",
            lines=lines,
        )
    )
    job, run = number_of(otf("submit", config)), tmp_path / "runs/ch4"
    wait(slurm, job, "COMPLETED", "FAILED")
    assert squeue(slurm, job) == "COMPLETED", (run / "slurm.log").read_text()
    outputs = list((run / "engine").rglob("*.std"))
    assert outputs
    assert all("threads of the ranks: 2 2" in path.read_text() for path in outputs)


@needs_mpich
def test_replicas_share_the_cores_of_their_job(otf, slurm, tmp_path):
    """Labels of several replicas run side by side, each an srun step of two ranks."""
    (tmp_path / "data/VPS").mkdir(parents=True)
    for name, electrons in (("C", 4.0), ("H", 1.0)):
        path = tmp_path / f"data/VPS/{name}_PBE19.vps"
        path.write_text(f"valence.electron  {electrons}\n")
    config = tmp_path / "ch4.yaml"
    text = MPI_CONFIG.format(
        python=sys.executable,
        standins=STANDINS,
        launcher="srun --mpi=pmi2",
        data=tmp_path / "data",
        lines=[],
    )
    text = text.replace("  tasks: 2", "  tasks: 4").replace("  threads: 2\n", "", 1)
    config.write_text(f"{text}replicas: {{count: 3}}\n")
    job, run = number_of(otf("submit", config)), tmp_path / "runs/ch4"
    wait(slurm, job, "COMPLETED", "FAILED")
    assert squeue(slurm, job) == "COMPLETED", (run / "slurm.log").read_text()
    assert "3 replicas, 9 steps in all" in (run / "slurm.log").read_text()
    assert "replica-2" in (run / "run.log").read_text()


def test_replicas_of_a_python_engine_label_in_steps_of_their_own(otf, slurm, tmp_path):
    config = written(tmp_path, seconds=0.2, cluster="tasks: 2")
    text = config.read_text().replace("0.2, gap_max: 3", "20, gap_max: 30")
    config.write_text(f"{text}replicas: {{count: 2, backend: executorlib}}\n")
    job, run = number_of(otf("submit", config)), tmp_path / "runs/al"
    while squeue(slurm, job) == "PENDING":
        time.sleep(0.2)
    steps = set()
    while squeue(slurm, job) == "RUNNING":
        asked = ["squeue", "--steps", "--noheader", f"--jobs={job}", "--format=%i"]
        answer = subprocess.run(asked, env=slurm, capture_output=True, text=True)
        steps |= {line for line in answer.stdout.split() if line.split(".")[1].isdecimal()}
        time.sleep(0.2)
    assert squeue(slurm, job) == "COMPLETED", (run / "slurm.log").read_text()
    labels = [
        len(read_labels(replica / "labels.extxyz")) for replica in sorted(run.glob("replica-?"))
    ]
    assert 2 < len(steps) <= sum(labels)
    assert "2 replicas, 120 steps in all" in (run / "slurm.log").read_text()


def test_more_ranks_than_the_job_has(otf, slurm, tmp_path):
    config = tmp_path / "ch4.yaml"
    (tmp_path / "data").mkdir()
    text = MPI_CONFIG.format(
        python=sys.executable, standins=STANDINS, launcher="auto", data=tmp_path / "data", lines=[]
    )
    config.write_text(text.replace("  tasks: 2", "  tasks: 1"))
    needs = "2 ranks of 2 threads need 4 cores,"
    assert f"{needs} and the job requests 2" in otf("submit", config, rc=1)
    assert not (tmp_path / "runs").exists()
    inside = ["srun", "--ntasks=1", sys.executable, "-m", "otf", "run", config]
    done = subprocess.run(inside, env=slurm, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{needs} but the allocation is Slurm job" in done.stderr

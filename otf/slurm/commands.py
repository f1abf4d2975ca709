"""Interface to the command-line programs of Slurm."""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from otf.engines.allocation import seconds_of
from otf.engines.process import clean_environment
from otf.errors import ClusterError

_ANSWER_S = 60.0
_JOB = re.compile(r"Submitted batch job (\d+)")
JOB_SCRIPT = "job.sh"
"""Name of the batch script in the run directory."""


@dataclass(frozen=True)
class Job:
    """A job in the queue.

    Attributes
    ----------
    state, reason
        As reported by Slurm, such as PENDING and Resources.
    left
        Time left until its time limit.
    run
        The run directory.
    """

    number: str
    state: str
    partition: str
    left: str
    reason: str
    run: Path


@dataclass(frozen=True)
class Partition:
    """Resources of a partition.

    Attributes
    ----------
    limit_s
        Time limit of a job, or None.
    nodes, cpus
        Number of nodes, and of cores of the largest node.
    """

    name: str
    limit_s: float | None
    nodes: int
    cpus: int
    default: bool


def submit(script: Path, *, options: Sequence[str] = ()) -> str:
    """Submit a script and return the number of the job.

    Raises
    ------
    ClusterError
        If Slurm rejects it.
    """
    answer = _ask("sbatch", *options, str(script))
    found = _JOB.search(answer)
    if found is None:
        raise ClusterError(f"sbatch: answered {answer.strip()!r} instead of a job number")
    return found[1]


def save_script(job: str, target: Path) -> None:
    """Write the batch script of a job to a file."""
    _ask("scontrol", "write", "batch_script", job, str(target))


def requeue(job: str) -> None:
    """Requeue a job, which ends its present execution."""
    _ask("scontrol", "requeue", job)


def cancel(job: str) -> None:
    """Cancel a running or pending job."""
    _ask("scancel", job)


def ask_to_stop(job: str) -> None:
    """Send SIGTERM to the run, but not to the processes it started."""
    _ask("scancel", "--batch", "--signal=TERM", job)


def my_jobs() -> list[Job]:
    """Jobs of the user whose script is that of a run, in the order of Slurm."""
    rows = _ask("squeue", "--me", "-h", "-o", "%i|%T|%P|%L|%r|%o").splitlines()
    jobs = []
    for row in rows:
        number, state, partition, left, reason, script = row.split("|", 5)
        path = Path(script)
        if path.name == JOB_SCRIPT and (path.parent / "config.resolved.yaml").exists():
            jobs.append(Job(number, state, partition, left, reason, path.parent))
    return jobs


def partitions() -> dict[str, Partition]:
    """All partitions by name; nodes of several kinds are combined."""
    found: dict[str, Partition] = {}
    for row in _ask("sinfo", "-h", "-o", "%P|%l|%D|%c").splitlines():
        starred, limit, nodes, cpus = row.split("|")
        name, cores = starred.rstrip("*"), int(cpus.rstrip("+"))
        known = found.get(name)
        found[name] = Partition(
            name,
            seconds_of(limit),
            int(nodes) + (known.nodes if known else 0),
            max(cores, known.cpus if known else 0),
            starred.endswith("*"),
        )
    return found


def _ask(program: str, *arguments: str) -> str:
    """Run a command and return its output.

    Raises
    ------
    ClusterError
        If it is not found, fails, or does not answer.
    """
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            env=clean_environment(os.environ),  # inherited by a submitted job
        )
    except FileNotFoundError as error:
        raise ClusterError(
            f"{program}: not found; use a machine of a cluster with Slurm, or `otf run`"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"{program}: does not answer; try again when the controller is back"
        ) from error
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise ClusterError(f"{program}: {said}")
    return done.stdout

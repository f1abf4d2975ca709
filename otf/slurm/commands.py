"""Slurm's own commands, asked as a user would ask them."""

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
    """A line of the queue.

    Attributes
    ----------
    state, reason
        As Slurm has them, such as PENDING and Resources.
    left
        Time until its end.
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
    """What a partition can give.

    Attributes
    ----------
    limit_s
        Longest time of a job, or None.
    nodes, cpus
        How many nodes, and cores of one of them (the largest).
    """

    name: str
    limit_s: float | None
    nodes: int
    cpus: int
    default: bool


def submit(script: Path, *, options: Sequence[str] = ()) -> str:
    """Hand in a script; the number of the job.

    Raises
    ------
    ClusterError
        If Slurm does not take it.
    """
    answer = _ask("sbatch", *options, str(script))
    found = _JOB.search(answer)
    if found is None:
        raise ClusterError(f"sbatch: answered {answer.strip()!r} instead of a job's number")
    return found[1]


def save_script(job: str, target: Path) -> None:
    """Write the script that a job was handed in with."""
    _ask("scontrol", "write", "batch_script", job, str(target))


def requeue(job: str) -> None:
    """Put a job back into the queue; this ends it where it runs."""
    _ask("scontrol", "requeue", job)


def cancel(job: str) -> None:
    """End a job, or take it out of the queue."""
    _ask("scancel", job)


def ask_to_stop(job: str) -> None:
    """Send SIGTERM to the run, and to nothing that it started."""
    _ask("scancel", "--batch", "--signal=TERM", job)


def my_jobs() -> list[Job]:
    """The user's jobs whose script is that of a run, in the order of Slurm."""
    rows = _ask("squeue", "--me", "-h", "-o", "%i|%T|%P|%L|%r|%o").splitlines()
    jobs = []
    for row in rows:
        number, state, partition, left, reason, script = row.split("|", 5)
        path = Path(script)
        if path.name == JOB_SCRIPT and (path.parent / "config.resolved.yaml").exists():
            jobs.append(Job(number, state, partition, left, reason, path.parent))
    return jobs


def partitions() -> dict[str, Partition]:
    """All partitions by name; nodes of several kinds are taken together."""
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
    """What a command prints.

    Raises
    ------
    ClusterError
        If it is not there, fails, or does not answer.
    """
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            env=clean_environment(os.environ),  # which a job that follows inherits
        )
    except FileNotFoundError as error:
        raise ClusterError(
            f"{program}: is not found; go to a machine of a cluster with Slurm, or use `otf run`"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"{program}: does not answer; try again when the controller is back"
        ) from error
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise ClusterError(f"{program}: {said}")
    return done.stdout

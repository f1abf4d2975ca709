"""Resources of a batch job, from the environment set by Slurm."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

_CPUS = re.compile(r"(\d+)(?:\(x(\d+)\))?")
_LEFT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)\Z")
_ANSWER_S = 30.0  # time limit of squeue


@dataclass(frozen=True)
class Allocation:
    """A Slurm job.

    Attributes
    ----------
    job
        Job number.
    restarts
        Number of times it was requeued.
    nodes
        Node names, as abbreviated by Slurm.
    cpus
        Total number of cores on all nodes.
    """

    job: str
    restarts: int
    partition: str
    nodes: str
    cpus: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self | None:
        """The job this process belongs to, or None.

        >>> Allocation.of({"SLURM_JOB_ID": "7", "SLURM_JOB_CPUS_PER_NODE": "8(x2),4"}).cpus
        20
        >>> Allocation.of({}) is None
        True
        >>> array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
        >>> Allocation.of({"SLURM_JOB_ID": "9", **array}).job
        '7_2'
        """
        job = environment.get("SLURM_JOB_ID")
        if job is None:
            return None
        if "SLURM_ARRAY_TASK_ID" in environment:  # the ID of one task denotes the whole array
            task = environment["SLURM_ARRAY_TASK_ID"]
            job = f"{environment.get('SLURM_ARRAY_JOB_ID', job)}_{task}"
        counts = _CPUS.findall(environment.get("SLURM_JOB_CPUS_PER_NODE", ""))
        return cls(
            job,
            int(environment.get("SLURM_RESTART_COUNT", "0")),
            environment.get("SLURM_JOB_PARTITION", ""),
            environment.get("SLURM_JOB_NODELIST", ""),
            sum(int(cpus) * int(times or 1) for cpus, times in counts),
        )

    def __str__(self) -> str:
        again = f", restart {self.restarts}" if self.restarts else ""
        return f"Slurm job {self.job}{again}: {self.cpus} cores of {self.partition} on {self.nodes}"

    def seconds_left(self) -> float | None:
        """Time left for the job, seconds; None if it is unlimited or Slurm does not answer."""
        try:
            answer = subprocess.run(
                ["squeue", "-h", "-j", self.job, "-o", "%L"],
                capture_output=True,
                text=True,
                timeout=_ANSWER_S,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            return None
        return seconds_of(answer.strip())


def this_job() -> Allocation | None:
    """The job this process belongs to, or None."""
    return Allocation.of(os.environ)


def seconds_of(left: str) -> float | None:
    """Seconds of a time printed by squeue; None for UNLIMITED, INVALID and the like.

    >>> [seconds_of(t) for t in ("0:58", "2:00:00", "1-00:00:01", "UNLIMITED")]
    [58.0, 7200.0, 86401.0, None]
    """
    found = _LEFT.match(left)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(86400 * days + 3600 * hours + 60 * minutes + seconds)

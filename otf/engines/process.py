"""Running a DFT program without a shell, in a clean environment, as one process group.

Engines import this module; it does not depend on any of them.
"""

import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from otf.errors import EngineError

_DROPPED = re.compile(
    r"PMIX_|PMI_|PMI2_|PRTE_(?!MCA_hwloc_default_binding_policy$)|ORTE_|OPAL_|HYDRA_|HYDI_|MPI_LOCAL|I_MPI_HYDRA_|MPIEXEC_|MPIRUN_"
)
_DROPPED_OMPI = re.compile(
    r"OMPI_MCA_(ess|orte_|pmix|initial_wdir|num_procs|cpu_type|PREFIXES|shmem_RUNTIME"
    r"|mpi_oversubscribe|rmaps_base_oversubscribe)"
)
_KEPT_OMPI = re.compile(r"OMPI_(ALLOW_|MCA_|CC$|CXX$|FC$)")
_DROPPED_IN_STEP = re.compile(
    r"SLURM_(STEP|PROCID$|LOCALID$|GTIDS$|TASK_PID$|SRUN_|LAUNCH_|PMIX|MPI_TYPE$|CPU_BIND|MEM_BIND"
    r"|DISTRIBUTION$|NTASKS$|NPROCS$|TASKS_PER_NODE$)"
)
_GRACE_S = 5.0  # between SIGTERM and SIGKILL
_FIRST_LIMIT_S = 24 * 3600.0  # before any run was timed
_SHORTEST_LIMIT_S = 600.0


@dataclass(frozen=True)
class Finished:
    """How a program ended.

    Attributes
    ----------
    returncode
        Exit code, or minus the number of the signal that ended it.
    timed_out
        Whether it was ended because it exceeded its time limit.
    wall_s
        Run time, seconds.
    """

    returncode: int
    timed_out: bool
    wall_s: float


@dataclass
class Patience:
    """Time limit of a program: as set by the user, or ten times the median so far.

    >>> Patience(5.0).limit_s
    5.0
    >>> Patience(None, [100.0, 90.0, 400.0]).limit_s
    1000.0

    Attributes
    ----------
    told_s
        Limit set by the user, or None.
    seconds
        Measured run times.
    """

    told_s: float | None
    seconds: list[float] = field(default_factory=list)

    @property
    def limit_s(self) -> float:
        """Seconds after which a program is considered to hang."""
        if self.told_s is not None:
            return self.told_s
        if not self.seconds:
            return _FIRST_LIMIT_S
        return max(_SHORTEST_LIMIT_S, 10.0 * statistics.median(self.seconds))


def installed_command(command: str) -> list[str]:
    """Words of a command whose program is installed.

    Raises
    ------
    EngineError
        If it is not found.
    """
    words = split_command(command)
    if not words or shutil.which(words[0]) is None:
        raise EngineError(
            f"engine.command: '{words[0] if words else ''}' is not found; give the full path, or "
            "load the module that has it"
        )
    if "/" in words[0]:  # it runs in another directory
        words[0] = str(Path(words[0]).absolute())
    return words


def split_command(command: str) -> list[str]:
    """Words of a command line, split as by a shell, without expansion.

    >>> split_command("mpirun -np 4 '/opt/open mx/openmx'")
    ['mpirun', '-np', '4', '/opt/open mx/openmx']
    """
    return shlex.split(command)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without variables that an outer MPI or Slurm step set for its own children.

    An MPI program started below another one takes such variables as its own and hangs or aborts.

    >>> clean_environment({"PATH": "/bin", "PMIX_RANK": "0", "OMPI_MCA_btl": "self"})
    {'PATH': '/bin', 'OMPI_MCA_btl': 'self'}
    """
    in_step = "SLURM_STEP_ID" in environment
    kept = {}
    for name, value in environment.items():
        if _DROPPED.match(name) or (name.startswith("OMPI_") and not _KEPT_OMPI.match(name)):
            continue
        if _DROPPED_OMPI.match(name) or (in_step and _DROPPED_IN_STEP.match(name)):
            continue
        kept[name] = value
    if in_step:
        kept["SLURM_OVERLAP"] = "1"
        if "SLURM_JOB_CPUS_PER_NODE" in environment:
            kept["SLURM_TASKS_PER_NODE"] = environment["SLURM_JOB_CPUS_PER_NODE"]
    return kept


def run_program(
    command: list[str],
    directory: Path,
    *,
    stdout: str,
    stderr: str,
    timeout_s: float | None = None,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run a program until it ends or exceeds its time limit.

    Parameters
    ----------
    command
        Program and arguments.
    directory
        Working directory.
    stdout, stderr, stdin
        Files in the directory.
    timeout_s
        Time limit, after which it is ended with everything it started.
    environment
        As for :func:`start_program`.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    began = time.monotonic()
    process = start_program(
        command, directory, stdout=stdout, stderr=stderr, stdin=stdin, environment=environment
    )
    timed_out = False
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        end_group(process)
    return Finished(process.wait(), timed_out, time.monotonic() - began)


def start_program(
    command: list[str],
    directory: Path,
    *,
    stdout: str,
    stderr: str,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program as the leader of a group; :func:`end_group` ends it.

    Parameters
    ----------
    environment
        Variables added to those of :func:`clean_environment`.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    with (
        (directory / stdout).open("wb") as out,
        (directory / stderr).open("wb") as err,
        (directory / stdin if stdin else Path(os.devnull)).open("rb") as given,
    ):
        return subprocess.Popen(
            [*_dies_with_us(), *command],
            cwd=directory,
            env=clean_environment(os.environ) | dict(environment or {}),
            stdin=given,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def _dies_with_us() -> list[str]:
    """Command prefix that ends a program when this process is killed (setpriv of util-linux)."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "TERM"] if found else []


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End the group of a process that leads it.

    SIGTERM is sent first, SIGKILL after some seconds.
    """
    for number, patience in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        if not _group_lives(process):
            break
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        until = time.monotonic() + patience
        while _group_lives(process) and time.monotonic() < until:
            time.sleep(0.01)
    process.poll()


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process or a child that outlived it is still running."""
    process.poll()  # reaps a leader that has ended
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True

"""The batch script of a run, and what is refused before Slurm sees it."""

import shlex
import sys
from pathlib import Path

from otf.config.cluster import Cluster, seconds
from otf.errors import ClusterError
from otf.slurm.commands import JOB_SCRIPT, Partition

LOG = "slurm.log"


def batch_script(cluster: Cluster, run: Path) -> str:
    """A script that goes on with a run.

    Parameters
    ----------
    run
        The run directory.
    """
    run = run.absolute()
    warning_s = min(round(60.0 * cluster.warning_min), max(1, seconds(cluster.time) // 2))
    options = [
        f"--job-name=otf-{run.name}",
        *([f"--partition={cluster.partition}"] if cluster.partition else []),
        *([f"--account={cluster.account}"] if cluster.account else []),
        f"--nodes={cluster.nodes}",
        f"--ntasks={cluster.tasks}",
        f"--cpus-per-task={cluster.threads}",
        f"--time={cluster.time}",
        f"--signal=B:USR1@{warning_s}",
        f"--output={run / LOG}",
        "--open-mode=append",
        "--requeue" if cluster.again == "requeue" else "--no-requeue",
        *cluster.options,
    ]
    ranks = ["mpirun", "-n", str(cluster.model_ranks)] if cluster.model_ranks > 1 else []
    command = [*ranks, sys.executable, "-m", "otf", "resume", str(run)]
    if cluster.again != "no":
        command += ["--again", cluster.again]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in options),
        "",
        *(f"module load {module}" for module in cluster.modules),
        *cluster.lines,
        "# A warning that comes before otf is up must not end it.",
        "trap '' USR1",
        "# Slurm signals the script itself: otf takes its place.",
        f"exec {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def script_of(run: Path) -> Path:
    """Where the script of a run stands."""
    return run.absolute() / JOB_SCRIPT


def check(cluster: Cluster, known: dict[str, Partition]) -> None:
    """Refuse what no job of the partition can be.

    Raises
    ------
    ClusterError
        With every reason.
    """
    if cluster.partition is None:
        partition = next((p for p in known.values() if p.default), None)
    elif cluster.partition not in known:
        raise ClusterError(
            f"cluster.partition: there is no '{cluster.partition}'; there is {', '.join(known)}"
        )
    else:
        partition = known[cluster.partition]
    if partition is None:
        return
    problems = []
    cores = cluster.nodes * partition.cpus
    if cluster.nodes > partition.nodes:
        problems.append(
            f"cluster.nodes: {cluster.nodes}, and '{partition.name}' has {partition.nodes}"
        )
    elif cluster.tasks * cluster.threads > cores:
        problems.append(
            f"cluster.tasks: {cluster.tasks} of {cluster.threads} threads need more than the "
            f"{cores} cores of {cluster.nodes} nodes of '{partition.name}'"
        )
    if partition.limit_s is not None and seconds(cluster.time) > partition.limit_s:
        problems.append(
            f"cluster.time: {cluster.time} is longer than '{partition.name}' allows, "
            f"{partition.limit_s / 3600.0:g} h"
        )
    if problems:
        raise ClusterError("\n".join(problems))


def check_ranks(cluster: Cluster, ranks: int, threads: int) -> None:
    """Refuse an engine that needs more cores than the job asks for.

    Raises
    ------
    ClusterError
        With what to change.
    """
    needed, asked = ranks * threads, cluster.tasks * cluster.threads
    if needed > asked:
        raise ClusterError(
            f"engine.ranks: {ranks} ranks of {threads} threads need {needed} cores, and the job "
            f"asks for {asked}; raise cluster.tasks or cluster.threads"
        )

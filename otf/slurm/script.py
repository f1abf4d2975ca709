"""The batch script of a run, and what is refused before Slurm sees it."""

import re
import shlex
import sys
from pathlib import Path

from otf.config.cluster import Cluster, seconds
from otf.errors import ClusterError
from otf.slurm.commands import JOB_SCRIPT, Partition

LOG = "slurm.log"
_FREE_CORES = (
    "# Else Open MPI binds each rank to a core, and the engine with the first of them.",
    "export OMPI_MCA_hwloc_base_binding_policy=none",
    "export PRTE_MCA_hwloc_default_binding_policy=none",
)


def batch_script(cluster: Cluster, run: Path) -> str:
    """A script that goes on with a run.

    Parameters
    ----------
    run
        The run directory.

    Raises
    ------
    ClusterError
        If its path is one that Slurm does not take.
    """
    run = run.resolve()
    if re.search(r"[\s%]", str(run)):
        raise ClusterError(f"{run}: Slurm takes no blanks and no % in a path; choose another one")
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
        *(_FREE_CORES if cluster.model_ranks > 1 else ()),
        *cluster.lines,
        "# A warning that comes before otf is up must not end it.",
        "trap '' USR1",
        "# Slurm signals the script itself: otf takes its place.",
        f"exec {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def script_of(run: Path) -> Path:
    """Where the script of a run stands."""
    return run.resolve() / JOB_SCRIPT


def check(cluster: Cluster, known: dict[str, Partition]) -> None:
    """Refuse what no job of the partition can be.

    Raises
    ------
    ClusterError
        With every reason.
    """
    if cluster.partition is None:
        partition = next((p for p in known.values() if p.default), None)
    else:
        wanted = cluster.partition.split(",")
        strangers = [name for name in wanted if name not in known]
        if strangers:
            raise ClusterError(
                f"cluster.partition: there is no '{strangers[0]}'; there is {', '.join(known)}"
            )
        partition = max((known[name] for name in wanted), key=lambda p: p.nodes * p.cpus)
    problems = []
    if cluster.model_ranks > cluster.tasks:
        problems.append(
            f"cluster.model_ranks: {cluster.model_ranks}, and the job has {cluster.tasks} tasks"
        )
    if partition is None:
        return
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

"""Batch script of a run, and checks of its resources before submission."""

import re
import shlex
import sys
from pathlib import Path

from otf.config.cluster import Cluster, seconds
from otf.errors import ClusterError
from otf.slurm.commands import JOB_SCRIPT, Partition

LOG = "slurm.log"
_FREE_CORES = (
    "# Otherwise Open MPI binds each rank to a core, and the engine to the core of rank 0.",
    "export OMPI_MCA_hwloc_base_binding_policy=none",
    "export PRTE_MCA_hwloc_default_binding_policy=none",
)


def batch_script(cluster: Cluster, run: Path) -> str:
    """Batch script that starts or continues a run.

    Parameters
    ----------
    run
        The run directory.

    Raises
    ------
    ClusterError
        If Slurm does not support its path.
    """
    run = run.resolve()
    if re.search(r"[\s%]", str(run)):
        raise ClusterError(
            f"{run}: Slurm does not support blanks and % in a path; choose another one"
        )
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
    command = [*ranks, sys.executable, "-P", "-m", "otf", "resume", str(run)]
    if cluster.again != "no":
        command += ["--again", cluster.again]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in options),
        "",
        *(f"module load {module}" for module in cluster.modules),
        *(_FREE_CORES if cluster.model_ranks > 1 else ()),
        *cluster.lines,
        "# A warning signal before otf has started must not end the job.",
        "trap '' USR1",
        "# Slurm signals the script only: otf replaces it.",
        f"exec {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def script_of(run: Path) -> Path:
    """Path of the script of a run."""
    return run.resolve() / JOB_SCRIPT


def check(cluster: Cluster, known: dict[str, Partition]) -> None:
    """Check that the partition can provide the resources of the job.

    Raises
    ------
    ClusterError
        With all problems found.
    """
    if cluster.partition is None:
        partition = next((p for p in known.values() if p.default), None)
    else:
        wanted = cluster.partition.split(",")
        strangers = [name for name in wanted if name not in known]
        if strangers:
            raise ClusterError(
                f"cluster.partition: there is no '{strangers[0]}'; choose from {', '.join(known)}"
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


def check_ranks(cluster: Cluster, ranks: int, threads: int, *, at_once: int = 1) -> None:
    """Check that the engine needs no more cores than the job requests.

    Parameters
    ----------
    at_once
        Number of labels that are computed at the same time.

    Raises
    ------
    ClusterError
        If it needs more.
    """
    needed, asked = at_once * ranks * threads, cluster.tasks * cluster.threads
    if needed > asked:
        of_each = f" for each of {at_once} labels at once" if at_once > 1 else ""
        raise ClusterError(
            f"engine.ranks: {ranks} ranks of {threads} threads{of_each} need {needed} cores, and "
            f"the job requests {asked}; raise cluster.tasks or cluster.threads"
        )

"""Starting a DFT program with ranks and threads, by srun or mpirun, within the allocation."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from otf.engines.allocation import Allocation
from otf.engines.process import installed_command, split_command
from otf.errors import EngineError

PositiveInt = Annotated[int, Field(gt=0)]

# Concurrent steps share no core, and none takes all the memory; a rank that fails to start must
# not hang the others.
_SRUN = ("--exact", "--mem=0", "--cpu-bind=cores", "--kill-on-bad-exit=1")
# Idle ranks yield their cores to the model; and the threads of a rank are not all bound to the
# one core that Open MPI 4 or 5 gives the rank.
_GIVE_WAY = {"OMPI_MCA_mpi_yield_when_idle": "1"}
UNBOUND = {
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
"""For Open MPI 4 and 5: no rank is bound to a core."""


class LaunchOptions(BaseModel):
    """Keys of the ``engine`` section that control how its program is started."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    command: str = Field(
        description="the program; without ranks, the whole command: mpirun -np 16 …"
    )
    ranks: PositiveInt | None = Field(
        None, description="number of MPI ranks, started by the launcher"
    )
    threads: PositiveInt = Field(1, description="OpenMP threads per rank")
    launcher: str = Field(
        "auto",
        description="command that starts the ranks, with options: srun --mpi=pmix, mpirun "
        "--bind-to none. auto: srun in a Slurm job, otherwise mpirun",
    )


@dataclass(frozen=True)
class Launch:
    """A command, and the variables to add to its environment."""

    words: list[str]
    environment: dict[str, str]


def launch(options: LaunchOptions, environment: Mapping[str, str] = os.environ) -> Launch:
    """Command that starts the program.

    Raises
    ------
    EngineError
        If the program or its launcher is not found, or the allocation is too small.
    """
    program = installed_command(options.command)
    if options.ranks is None:
        return Launch(program, {})
    allocation = Allocation.of(environment)
    cores = options.ranks * options.threads
    if allocation is not None and cores > allocation.cpus:
        raise EngineError(
            f"engine.ranks: {options.ranks} ranks of {options.threads} threads need {cores} cores, "
            f"but the allocation is {allocation}; ask for more (cluster.tasks, cluster.threads) "
            "or start fewer ranks"
        )
    launcher = _launcher(options.launcher, allocation)
    added = _GIVE_WAY | {"OMP_NUM_THREADS": str(options.threads)}
    if options.threads > 1:
        added |= UNBOUND
    if Path(launcher[0]).name == "srun":
        counts = [f"--ntasks={options.ranks}", f"--cpus-per-task={options.threads}"]
        return Launch([*launcher, *_SRUN, *counts, *program], added)
    return Launch([*launcher, "-n", str(options.ranks), *program], added)


def _launcher(wanted: str, allocation: Allocation | None) -> list[str]:
    if wanted != "auto":
        words = split_command(wanted)
        if words and shutil.which(words[0]) is not None:
            return words
        raise EngineError(
            f"engine.launcher: '{words[0] if words else ''}' is not found; give the full path, or "
            "load the module that has it (cluster.modules)"
        )
    for name in ("srun",) * (allocation is not None) + ("mpirun", "mpiexec"):
        if shutil.which(name) is not None:
            return [name]
    raise EngineError(
        "engine.ranks: neither mpirun nor mpiexec is found to start them; load the module that has "
        "one, or set engine.launcher"
    )

"""Evaluation of the model on several MPI ranks, each for a share of the atoms.

Rank 0 runs the program; the others wait for its requests, so that nothing is computed twice or has
to agree bitwise between different machines. Shares are contiguous ranges of atoms, and their
results are summed in the order of the ranks: bitwise identical for the same number of ranks. The
normal equations of a label are formed on rank 0, which takes a fiftieth of the time one rank needs
for the rows (4096 silicon atoms, 359 coefficients).
"""

import importlib
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from ase import Atoms
from ase import parallel as ase_parallel

from otf.arrays import Floats
from otf.engines.extras import install_command
from otf.errors import RunError
from otf.kernels.energy import Tensors
from otf.model.descriptor import Descriptor
from otf.model.sharing import Sharing
from otf.model.tensor_energy import TensorEnergy
from otf.model.workers import Workers

_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")
_IMPATIENT_S = 0.05
_NAP_S = 0.002
_PASSED_ON_S = 0.5  # mpirun discards output not yet forwarded when it ends


@dataclass(frozen=True, eq=False)
class _Definition:
    """Definition of a model for later requests."""

    key: int
    recipe: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class _Question:
    """Request to evaluate the model on a structure, or to compute its rows."""

    key: int
    atoms: tuple[Any, ...]
    tensors: Tensors | None
    rows: bool


def started_ranks(environment: Mapping[str, str] = os.environ) -> int:
    """Number of ranks with which this program was started by mpirun or srun.

    >>> started_ranks({"PMI_SIZE": "4"}), started_ranks({})
    (4, 1)
    """
    names = list(_SIZES)
    if "PMIX_RANK" in environment:  # MPI by srun: a plain shell in a job step lacks it
        names.append("SLURM_STEP_NUM_TASKS")
    return max([1, *(int(environment[name]) for name in names if name in environment)])


def world_of(started: int) -> Any:
    """Communicator of all ranks.

    Raises
    ------
    RunError
        If mpi4py is missing, or belongs to another MPI.
    """
    # If ASE found MPI first, it would involve every rank in reading and writing.
    assert ase_parallel.world.size == 1
    try:
        world = importlib.import_module("mpi4py.MPI").COMM_WORLD
    except ImportError as error:
        raise RunError(
            f"{started} ranks were started, but mpi4py is missing: {install_command('mpi')}"
        ) from error
    if world.size == 1:
        raise RunError(
            f"{started} ranks were started, and mpi4py sees one: it uses another MPI than the "
            "mpirun that started them (MPI4PY_MPIABI=openmpi or mpich chooses)"
        )
    return world


class MpiRanks:
    """Interface for rank 0: distributes requests to all ranks and sums their results.

    Parameters
    ----------
    world
        Communicator of mpi4py.
    """

    def __init__(self, world: Any) -> None:
        self._world = world
        self._keys: WeakKeyDictionary[TensorEnergy, int] = WeakKeyDictionary()
        self._count = 0
        self._sent: tuple[int, Tensors] | None = None

    def design(self, model: TensorEnergy, atoms: Atoms) -> Floats:
        """As :meth:`TensorEnergy.design`."""
        with _all_or_none(self._world):
            self._ask(_Question(self._key(model), _packed(atoms), None, rows=True))
            start, stop = _range(self._world, len(atoms))
            return self._sum(model.design_of(atoms, start, stop))

    def evaluate(
        self, model: TensorEnergy, atoms: Atoms, tensors: Tensors
    ) -> tuple[Floats, Floats, Floats]:
        """Energies (N,), forces (N, 3) and virial (3, 3)."""
        key = self._key(model)
        known = self._sent is not None and self._sent[0] == key and self._sent[1] is tensors
        with _all_or_none(self._world):
            self._ask(_Question(key, _packed(atoms), None if known else tensors, rows=False))
            self._sent = (key, tensors)
            start, stop = _range(self._world, len(atoms))
            total = self._sum(_flat(*model.share(atoms, tensors, start, stop)))
        n = len(atoms)
        return total[:n], total[n : 4 * n].reshape(n, 3), total[4 * n :].reshape(3, 3)

    def end(self) -> None:
        """Stop the other ranks."""
        self._ask(None)

    def _ask(self, task: object) -> None:
        for rank in range(1, self._world.size):
            self._world.send(task, dest=rank)

    def _key(self, model: TensorEnergy) -> int:
        """Key of a model on the other ranks; its definition is sent to them if it is new."""
        if model not in self._keys:
            self._count += 1
            self._keys[model] = self._count
            recipe = (
                model.descriptor.species,
                model.descriptor.settings,
                model.sharing.groups,
                model.standard,
                model.coupling,
                model.workers.threads,
            )
            self._ask(_Definition(self._count, recipe))
        return self._keys[model]

    def _sum(self, mine: Floats) -> Floats:
        """Sum of the arrays of all ranks, in the order of the ranks."""
        buffer = np.empty_like(mine)
        for rank in range(1, self._world.size):
            self._world.Recv(buffer, source=rank)
            mine += buffer
        return mine


def worker_loop(world: Any) -> None:
    """Main loop of all ranks but 0: process requests until rank 0 stops them."""
    with _all_or_none(world):
        _answer(world)


@contextmanager
def _all_or_none(world: Any) -> Iterator[None]:
    """Abort all ranks if one fails: the others would wait for it forever."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        time.sleep(_PASSED_ON_S)
        world.Abort(1)
        raise


def _next_task(world: Any) -> Any:
    """Next request of rank 0; during long waits, as for a label, sleep to free the core."""
    began = time.monotonic()
    while not world.Iprobe(source=0):
        if time.monotonic() - began > _IMPATIENT_S:
            time.sleep(_NAP_S)
    return world.recv(source=0)


def _answer(world: Any) -> None:
    models: dict[int, TensorEnergy] = {}
    tensors: dict[int, Tensors] = {}
    while True:
        task = _next_task(world)
        if task is None:
            return
        if isinstance(task, _Definition):
            models[task.key] = _built(task.recipe)
            continue
        assert isinstance(task, _Question)
        model, atoms = models[task.key], Atoms(task.atoms[0], task.atoms[1])
        atoms.set_cell(task.atoms[2])
        atoms.pbc = task.atoms[3]
        start, stop = _range(world, len(atoms))
        if task.rows:
            answer = model.design_of(atoms, start, stop)
        else:
            if task.tensors is not None:
                tensors = {task.key: task.tensors}
            answer = _flat(*model.share(atoms, tensors[task.key], start, stop))
        world.Send(answer, dest=0)


def _built(recipe: tuple[Any, ...]) -> TensorEnergy:
    species, settings, groups, standard, coupling, threads = recipe
    return TensorEnergy(
        Descriptor(species, settings),
        Sharing(groups),
        standard,
        coupling=coupling,
        workers=Workers(threads),
    )


def _packed(atoms: Atoms) -> tuple[Any, ...]:
    return atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc


def _flat(energies: Floats, forces: Floats, virial: Floats) -> Floats:
    return np.concatenate([energies, forces.ravel(), virial.ravel()])


def _range(world: Any, n: int) -> tuple[int, int]:
    """Range of the atoms of this rank."""
    return n * world.rank // world.size, n * (world.rank + 1) // world.size

"""The model on several MPI ranks: each computes what its share of the atoms adds.

Rank 0 runs everything; the others wait for its questions, so that nothing needs to be computed
twice, nor agree to the last bit on machines that differ. Shares are contiguous ranges of atoms, and
their results are added in the order of the ranks: the same bits for the same number of ranks. The
rows of a label are added up once; the normal equations they make are formed on rank 0, which takes
a fiftieth of the time one rank needs for the rows (4096 silicon atoms, 359 coefficients).
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
from otf.errors import RunError
from otf.kernels.energy import Tensors
from otf.model.descriptor import Descriptor
from otf.model.sharing import Sharing
from otf.model.tensor_energy import TensorEnergy
from otf.model.workers import Workers

_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")
_IMPATIENT_S = 0.05
_NAP_S = 0.002
_PASSED_ON_S = 0.5  # mpirun drops what it has not passed on when it ends


@dataclass(frozen=True, eq=False)
class _Definition:
    """A model that questions will be about."""

    key: int
    recipe: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class _Question:
    """What the model says of a structure, or with no tensors: its rows."""

    key: int
    atoms: tuple[Any, ...]
    tensors: Tensors | None
    rows: bool


def started_ranks(environment: Mapping[str, str] = os.environ) -> int:
    """With how many ranks this program was started, by mpirun or srun.

    >>> started_ranks({"PMI_SIZE": "4"}), started_ranks({})
    (4, 1)
    """
    names = list(_SIZES)
    if "PMIX_RANK" in environment:  # by srun as MPI; a shell in a step has the number alone
        names.append("SLURM_STEP_NUM_TASKS")
    return max([1, *(int(environment[name]) for name in names if name in environment)])


def world_of(started: int) -> Any:
    """The communicator of all ranks.

    Raises
    ------
    RunError
        If mpi4py is missing, or belongs to another MPI.
    """
    # ASE would make every rank take part in reading and writing, if it saw MPI first.
    assert ase_parallel.world.size == 1
    try:
        world = importlib.import_module("mpi4py.MPI").COMM_WORLD
    except ImportError as error:
        raise RunError(
            f"{started} ranks were started, and mpi4py is missing: pip install 'otf-aimd[mpi]'"
        ) from error
    if world.size == 1:
        raise RunError(
            f"{started} ranks were started, and mpi4py sees one: it uses another MPI than the "
            "mpirun that started them (MPI4PY_MPIABI=openmpi or mpich chooses)"
        )
    return world


class MpiRanks:
    """Rank 0's side: asks all ranks, itself included, and adds up their answers.

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
        """Let the other ranks go."""
        self._ask(None)

    def _ask(self, task: object) -> None:
        for rank in range(1, self._world.size):
            self._world.send(task, dest=rank)

    def _key(self, model: TensorEnergy) -> int:
        """Number by which the other ranks know a model; made known to them first if need be."""
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
        """All ranks' arrays added in the order of the ranks."""
        buffer = np.empty_like(mine)
        for rank in range(1, self._world.size):
            self._world.Recv(buffer, source=rank)
            mine += buffer
        return mine


def worker_loop(world: Any) -> None:
    """What all ranks but 0 do: answer questions until there are no more."""
    with _all_or_none(world):
        _answer(world)


@contextmanager
def _all_or_none(world: Any) -> Iterator[None]:
    """End all ranks if one fails: the others would wait for it for ever."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        time.sleep(_PASSED_ON_S)
        world.Abort(1)
        raise


def _next_task(world: Any) -> Any:
    """What rank 0 asks next; who waits for long, as for a label, leaves its core to others."""
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
    """The atoms of this rank."""
    return n * world.rank // world.size, n * (world.rank + 1) // world.size

"""Commands on several MPI ranks: rank 0 runs the command, the others evaluate the model."""

import functools
import signal
from collections.abc import Callable
from typing import Any

_LEFT_TO_RANK_0 = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def with_mpi_ranks(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator that runs a command on rank 0 and passes it the other ranks as workers."""

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        from otf.model.ranks import MpiRanks, started_ranks, worker_loop, world_of

        started = started_ranks()
        if started == 1:
            command(**arguments, ranks=None)
            return
        world = world_of(started)
        if world.rank:
            for number in _LEFT_TO_RANK_0:  # mpirun forwards signals to all ranks
                signal.signal(number, signal.SIG_IGN)
            worker_loop(world)
            return
        ranks = MpiRanks(world)
        try:
            command(**arguments, ranks=ranks)
        finally:
            ranks.end()

    return run

"""Distribution of ranges of atoms over threads, with results independent of their number."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

CHUNK = 128
"""Number of atoms in a range; fixed, because sums are taken range by range."""


def available_cores() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Thread pool that runs a function on every range of atoms.

    Parameters
    ----------
    threads
        Number of threads; None for the cores this process may use. The kernels release the
        interpreter lock.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or available_cores()
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0

    def __getstate__(self) -> dict[str, object]:
        """State without the threads, which cannot be pickled."""
        return {"threads": self.threads}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(state["threads"])  # type: ignore[misc]

    def _threads(self) -> ThreadPoolExecutor:
        """The pool of this process; a forked child creates its own."""
        if self._pool is None or self._owner != os.getpid():
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="otf-forces")
            self._owner = os.getpid()
        return self._pool

    def each_range(self, n: int, work: Callable[[int, int, int, int], None]) -> None:
        """Call ``work(worker, chunk, start, stop)`` for all ranges of n atoms.

        Calls with the same worker number are sequential.
        """
        chunks = -(-n // CHUNK)
        workers = min(self.threads, chunks)

        def share(worker: int) -> None:
            for chunk in range(worker, chunks, workers):
                work(worker, chunk, chunk * CHUNK, min(n, (chunk + 1) * CHUNK))

        if workers <= 1:
            share(0)
            return
        pool = self._threads()
        for done in [pool.submit(share, worker) for worker in range(workers)]:
            done.result()

"""Labels of several structures at once, by as many engines."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from queue import SimpleQueue
from typing import TypeVar

from ase import Atoms

from otf.engines.asking import ask
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import Capabilities, DensityGuess, LabelSource, WarmStart
from otf.orbitals.block_matrices import Matrices

_T = TypeVar("_T")


class SeveralEngines(LabelSource):
    """Engines of one kind that take turns by the number of the label.

    Labels of successive numbers may be computed at once, as many as there are engines. Every engine
    numbers its own labels without gaps, and starts one from its last: which engine computes a
    label, and from what, depends on its number alone, so that resumed runs repeat it.

    Parameters
    ----------
    engines
        Open engines, each with a directory of its own.
    """

    def __init__(self, engines: Sequence[LabelSource]) -> None:
        self._engines = tuple(engines)
        self._latest = threading.local()  # engine of the latest label of a thread

    @property
    def capabilities(self) -> Capabilities:
        """Those of an engine, without force checks."""
        return replace(self._engines[0].capabilities, force_check=False)

    @property
    def warm_start(self) -> WarmStart:
        """See :class:`otf.engines.protocol.LabelSource`."""
        return self._engines[0].warm_start

    @property
    def at_once(self) -> int:
        """The number of engines."""
        return len(self._engines)

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """See :class:`otf.engines.protocol.LabelSource`; may be called by several threads."""
        own, number = divmod(index, len(self._engines))
        engine = self._latest.engine = self._engines[number]
        return engine.label(atoms, index=own, remedies=remedies, guess=guess)

    def matrices(self) -> Matrices | None:
        """Converged matrices of the latest label of this thread."""
        latest: LabelSource = self._latest.engine
        return latest.matrices()

    def pause(self) -> None:
        """See :class:`otf.engines.protocol.LabelSource`."""
        for engine in self._engines:
            engine.pause()


def side_by_side(tasks: Sequence[Callable[[], _T]]) -> Iterator[_T | Exception]:
    """Results of tasks, in their order, each computed in its own thread; or what it raised.

    A single task is computed in this thread, where an interrupt ends it at once, and raises itself.
    Otherwise an interrupt does not wait for the threads.
    """
    if len(tasks) == 1:
        yield tasks[0]()
        return

    def work(task: Callable[[], _T], result: Future[_T | Exception]) -> None:
        try:
            result.set_result(task())
        except Exception as error:  # reaches the caller
            result.set_result(error)

    results = [Future[_T | Exception]() for _ in tasks]
    for number, (task, result) in enumerate(zip(tasks, results, strict=True)):
        name = f"otf-label-{number}"
        threading.Thread(target=work, args=(task, result), name=name, daemon=True).start()
    for result in results:
        yield result.result()


def label_at_once(
    engines: Sequence[LabelSource], structures: Mapping[int, Atoms]
) -> Iterator[tuple[int, Labels | LabelFailure]]:
    """Label structures by their numbers; yield the labels as they are done.

    After a failure no further label is begun; those that are being computed are still yielded.

    Parameters
    ----------
    engines
        Open engines, each with a directory of its own; each computes one label at a time.
    """
    if len(engines) == 1:  # in this thread, where an interrupt ends it at once
        for number, atoms in structures.items():
            labels = ask(engines[0], atoms, index=number)
            yield number, labels
            if isinstance(labels, LabelFailure):
                return
        return
    free, failed = SimpleQueue[LabelSource](), threading.Event()
    for engine in engines:
        free.put(engine)

    def label(number: int) -> tuple[int, Labels | LabelFailure] | None:
        engine = free.get()
        try:
            if failed.is_set():
                return None
            labels = ask(engine, structures[number], index=number)
            if isinstance(labels, LabelFailure):
                failed.set()
            return number, labels
        finally:
            free.put(engine)

    pool = ThreadPoolExecutor(len(engines), thread_name_prefix="otf-labels")
    try:
        for done in as_completed([pool.submit(label, number) for number in structures]):
            answer = done.result()
            if answer is not None:
                yield answer
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

"""Labels of independent structures by several engines at once."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue

from ase import Atoms

from otf.engines.asking import ask
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import LabelSource


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

"""An engine that releases the lock of the shared model while it computes a label."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ase import Atoms

from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import (
    Capabilities,
    DensityGuess,
    ForceCheck,
    LabelSource,
    WarmStart,
)
from otf.orbitals.block_matrices import Matrices
from otf.runs.signals import StopRequest


class StoppedError(Exception):
    """A stop was requested while a replica waited for its engine."""


class TurnTakingEngine(LabelSource):
    """An engine that releases the lock of the shared model while it computes.

    Parameters
    ----------
    source
        The engine.
    model_lock
        Held by the replica that computes with the model.
    limit
        Limit on the engines that run at a time.
    request
        Whether the run is to stop.
    pauses
        Whether the engine releases its cores after each label, for other replicas.
    """

    def __init__(
        self,
        source: LabelSource,
        model_lock: threading.Lock,
        *,
        limit: threading.BoundedSemaphore,
        request: StopRequest,
        pauses: bool,
    ) -> None:
        self._source = source
        self._model_lock = model_lock
        self._limit = limit
        self._request = request
        self._pauses = pauses

    @property
    def capabilities(self) -> Capabilities:
        """Those of the engine."""
        return self._source.capabilities

    @property
    def warm_start(self) -> WarmStart:
        """See :class:`otf.engines.protocol.LabelSource`."""
        return self._source.warm_start

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """See :class:`otf.engines.protocol.LabelSource`."""
        with self._turn():
            return self._source.label(atoms, index=index, remedies=remedies, guess=guess)

    def matrices(self) -> Matrices | None:
        """See :class:`otf.engines.protocol.LabelSource`."""
        return self._source.matrices()

    def check_forces(
        self, atoms: Atoms, *, index: int, guess: DensityGuess | None = None
    ) -> ForceCheck | None:
        """See :class:`otf.engines.protocol.LabelSource`."""
        with self._turn():
            return self._source.check_forces(atoms, index=index, guess=guess)

    def pause(self) -> None:
        """See :class:`otf.engines.protocol.LabelSource`."""
        self._source.pause()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Release the model lock and take one of the engine slots."""
        self._model_lock.release()
        try:
            with self._limit:
                if self._request:
                    raise StoppedError
                yield
                if self._pauses:
                    self._source.pause()
        finally:
            self._model_lock.acquire()

"""Labels in separate processes started by executorlib, as job steps or on one machine.

Engines that run inside this process share its interpreter lock and its cores, so labels of replicas
run concurrently, or on other nodes, only in other processes. Every label has its own process
without state between labels: engines are warm-started from files.
"""

import importlib
import os
import signal
import threading
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ase import Atoms

from otf.config import Config
from otf.engines.allocation import Allocation
from otf.engines.extras import install_command
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import Capabilities, DensityGuess, Engine, LabelSource, WarmStart
from otf.errors import EngineError, RunError
from otf.orbitals.block_matrices import Matrices
from otf.runs.assemble import make_engine

_GLANCE_S = 1.0  # between checks that the parent process is alive


class EngineProcesses:
    """Starts labelling processes, up to a number at a time.

    Parameters
    ----------
    processes
        Maximum number of processes at a time.
    cores
        Cores of each process.
    job
        Slurm job whose steps they become, or None.

    Raises
    ------
    RunError
        If executorlib is missing.
    """

    def __init__(self, processes: int, cores: int, job: Allocation | None) -> None:
        try:
            executorlib = importlib.import_module("executorlib")
        except ImportError as error:
            raise RunError(
                f"replicas.backend: executorlib is missing ({error}): "
                f"{install_command('executorlib')}"
            ) from error
        resources: dict[str, object] = {"cores": 1, "threads_per_core": cores}
        kind = executorlib.SingleNodeExecutor
        if job is not None:
            kind = executorlib.SlurmJobExecutor
            resources["slurm_cmd_args"] = ["--exact"]
        self._parent = os.getpid() if job is None else None
        self._executor = kind(
            max_workers=processes, resource_dict=resources, hostname_localhost=job is None
        )

    def label(self, task: "LabelTask") -> tuple[Labels | LabelFailure, Matrices | None]:
        """Compute a label and its matrices in a separate process.

        Raises
        ------
        EngineError
            If the engine raises it.
        """
        future = self._executor.submit(_label_here, task, self._parent)
        try:
            answer = future.result()
        except RuntimeError as error:
            if type(error).__name__ != "ExecutorlibSocketError":
                raise
            failure = LabelFailure(
                "the process that labelled ended without an answer",
                "check that there is enough memory; a smaller replicas.labels_at_once needs less",
            )
            return failure, None
        if isinstance(answer, EngineError):
            raise answer
        return cast(tuple[Labels | LabelFailure, Matrices | None], answer)

    def close(self) -> None:
        """Wait for all processes."""
        self._executor.shutdown(wait=True)


@dataclass(frozen=True, eq=False)
class LabelTask:
    """A label to compute, with the arguments to open the engine.

    Attributes
    ----------
    config, scratch, start
        Configuration, scratch directory, and the structure the engine is opened with.
    atoms, index, remedies, guess
        See :meth:`otf.engines.protocol.LabelSource.label`.
    """

    config: Config
    scratch: Path
    start: Atoms
    atoms: Atoms
    index: int
    remedies: tuple[str, ...]
    guess: DensityGuess | None


class EngineInProcesses(LabelSource):
    """An engine whose labels are computed in separate processes."""

    def __init__(
        self,
        processes: EngineProcesses,
        engine: Engine,
        config: Config,
        scratch: Path,
        atoms: Atoms,
    ) -> None:
        self._warm_start = engine.warm_start
        # The processes only label.
        self._capabilities = replace(engine.capabilities, force_check=False)
        self._matrices: Matrices | None = None
        self._processes = processes
        self._config = config
        self._scratch = scratch.absolute()
        self._start = atoms.copy()

    @property
    def capabilities(self) -> Capabilities:
        """Those of the engine, without force checks."""
        return self._capabilities

    @property
    def warm_start(self) -> WarmStart:
        """See :class:`otf.engines.protocol.LabelSource`."""
        return self._warm_start

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """See :meth:`otf.engines.protocol.LabelSource.label`."""
        task = LabelTask(
            self._config, self._scratch, self._start, atoms, index, tuple(remedies), guess
        )
        answer, self._matrices = self._processes.label(task)
        return answer

    def matrices(self) -> Matrices | None:
        """See :class:`otf.engines.protocol.LabelSource`."""
        return self._matrices


def _label_here(
    task: LabelTask, parent: int | None
) -> tuple[Labels | LabelFailure, Matrices | None] | EngineError:
    """Compute a label with an engine opened in this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted run waits for its labels
    threading.Thread(target=_end_with, args=(parent or os.getppid(),), daemon=True).start()
    try:
        with closing(make_engine(task.config)) as engine:
            engine.open(task.start, task.scratch)
            answer = engine.label(
                task.atoms, index=task.index, remedies=task.remedies, guess=task.guess
            )
            return answer, engine.matrices() if isinstance(answer, Labels) else None
    except EngineError as error:
        return error


def _end_with(parent: int) -> None:
    """Exit when the parent process was killed; Slurm itself does so for its steps."""
    while os.getppid() == parent:
        time.sleep(_GLANCE_S)
    os._exit(1)

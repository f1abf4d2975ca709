"""The running program: started for a structure, kept between labels, restarted when needed."""

import logging
import re
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.engines.failures import FROM_SCRATCH, ONCE_MORE
from otf.engines.ipi_client import Client, Listener, Sent
from otf.engines.launch import Launch
from otf.engines.process import Finished
from otf_ipi.codes import Code
from otf_ipi.options import Options
from otf_ipi.program_input import ProgramInput, filled

_LOG = logging.getLogger("otf.ipi")
_LARGEST_STRAIN = 0.01
"""Change of the cell after which a program whose basis set is that of its first cell restarts."""
_OUTPUT, _ERRORS = "output", "errors"
_HEADER_BYTES = 1 << 16
_LATE_OUTPUT_S = 5.0  # for the output of a label to be written after its results were sent


@dataclass(frozen=True, eq=False)
class Answer:
    """What the program gave for a structure.

    Attributes
    ----------
    finished
        How the process ended; exit code 0 if it is still running.
    sent
        What it sent, or None.
    output, errors
        Its output for this structure, and its error output.
    directory
        Its working directory.
    warm
        Whether it had computed structures before.
    """

    finished: Finished
    sent: Sent | None
    output: str
    errors: str
    directory: Path
    warm: bool


class Program:
    """A program and the process it runs in.

    Parameters
    ----------
    launch
        Its command, in which placeholders are filled in, and its environment.
    code
        Its description.
    given
        Its input file.
    species
        Name of each atom in the input file.
    scratch
        Folder for the working directories of its processes.
    """

    def __init__(
        self,
        options: Options,
        launch: Launch,
        code: Code,
        *,
        given: ProgramInput,
        species: list[str],
        scratch: Path,
    ) -> None:
        self._options = options
        self._launch = launch
        self._code = code
        self._given = given
        self._species = species
        self._scratch = scratch
        self._client: Client | None = None
        self._cell: Floats = np.zeros((3, 3))  # that it was started with
        self._changes: tuple[str, ...] = ()
        self._computed = 0

    def compute(self, structure: Atoms, remedies: Collection[str], timeout_s: float) -> Answer:
        """Compute a structure, in the running process if it fits.

        Parameters
        ----------
        remedies
            What to try after failures; those that do not change the input start a new process.
        """
        changes = tuple(r for r in remedies if r in self._given.remedies)
        client = self._client
        if (
            client is None
            or not client.runs
            or changes != self._changes
            or {FROM_SCRATCH, ONCE_MORE} & set(remedies)
            or self._strained(structure)
        ):
            client = self._start(structure, changes)
        output = client.directory / _OUTPUT
        seen = output.stat().st_size
        finished, sent = client.compute(structure, timeout_s)
        warm = self._computed > 0
        self._computed += 1
        return Answer(
            finished,
            sent,
            self._output_from(output, seen, answered=sent is not None),
            _text(client.directory / _ERRORS),
            client.directory,
            warm,
        )

    def stop(self) -> None:
        """End the process; may be called twice."""
        if self._client is not None:
            self._client.stop()
        self._client = None

    @property
    def version(self) -> str:
        """Version that the running process printed; empty if it printed none."""
        if self._code.version is None or self._client is None:
            return ""
        with (self._client.directory / _OUTPUT).open("rb") as file:
            head = file.read(_HEADER_BYTES).decode("utf-8", errors="replace")
        found = re.search(self._code.version, head)
        return found.group(1) if found else ""

    @property
    def converged(self) -> str | None:
        """Regular expression in the output of every converged label; None if there is none."""
        return self._options.converged or self._code.converged

    def _strained(self, structure: Atoms) -> bool:
        if not self._code.grid:
            return False
        strain = np.abs(np.linalg.solve(self._cell, structure.cell.array) - np.eye(3)).max()
        if strain > _LARGEST_STRAIN:
            _LOG.info(
                "%s starts anew: its basis set is that of a cell that changed by %.1f %%",
                self._code.name,
                100.0 * strain,
            )
        return bool(strain > _LARGEST_STRAIN)

    def _start(self, structure: Atoms, changes: tuple[str, ...]) -> Client:
        """Start a process in a new directory; that of the last one is kept for inspection."""
        self.stop()
        old = sorted(self._scratch.glob("process-*"))
        number = 1 + int(old[-1].name.removeprefix("process-")) if old else 0
        for path in old[:-1]:
            shutil.rmtree(path, ignore_errors=True)
        directory = self._scratch / f"process-{number:06d}"
        directory.mkdir()
        listener = Listener(self._options.connection, self._options.host)
        self._given.write(directory, structure, self._species, listener, changes)
        self._client = Client(
            self._command(listener),
            directory,
            listener,
            stdout=_OUTPUT,
            stderr=_ERRORS,
            environment=self._launch.environment,
        )
        self._cell, self._changes, self._computed = structure.cell.array.copy(), changes, 0
        return self._client

    def _command(self, listener: Listener) -> list[str]:
        """The command with its placeholders filled in, or with the program's usual arguments."""
        words = list(self._launch.words)
        if not any("{" in word for word in words):
            words += self._code.arguments[listener.kind].split()
        return [filled(word, listener, input_name=self._given.source) for word in words]

    def _output_from(self, output: Path, seen: int, *, answered: bool) -> str:
        """Output after its first bytes; waits for a report of convergence that comes late."""
        until = time.monotonic() + _LATE_OUTPUT_S
        ends = [p for p in (self.converged, *self._code.not_converged) if p is not None]
        while True:
            text = _text(output, seen)
            found = any(re.search(pattern, text) for pattern in ends)
            if not answered or self.converged is None or found or time.monotonic() > until:
                return text
            time.sleep(0.05)


def _text(path: Path, seen: int = 0) -> str:
    with path.open("rb") as file:
        file.seek(seen)
        return file.read().decode("utf-8", errors="replace")

"""Labels by a running SIESTA server, over a socket (SIESTA 4.1 manual, "Master").

Only the structure goes over the socket; results are read from files, which have more digits.
"""

import shutil
from typing import Literal

from ase import Atoms

from otf.engines.ipi_client import Client, Listener
from otf.engines.labels import LabelFailure
from otf_siesta.answers import ERRORS, OUTPUT, read_label, units_of
from otf_siesta.changes import CHANGE_INPUT, NAME
from otf_siesta.guesses import begin_from
from otf_siesta.job import DENSITY_MATRIX, INPUT, Ended, Job, Question

_ORBITALS = f"{NAME}.ORB_INDX"


class ByServer:
    """Keeps a server running, and starts another if it does not fit the label.

    Parameters
    ----------
    connection, host
        Kind of the socket, and for inet the name of this machine.
    extrapolates
        Whether the server extrapolates from the density matrices of its earlier labels.
    """

    def __init__(
        self, job: Job, connection: Literal["unix", "inet"], host: str, *, extrapolates: bool
    ) -> None:
        self._job = job
        self._connection = connection
        self._host = host
        self._extrapolates = extrapolates
        self._server: Client | None = None
        self._remedies: tuple[str, ...] = ()  # that the server was started with
        self._last: int | None = None  # label whose density matrices the server holds

    def label(self, question: Question) -> Ended | LabelFailure:
        """A self-consistent label."""
        before, index = question.before, question.index
        server = self._fitting(question)
        directory = server.directory
        if before is None:
            (directory / DENSITY_MATRIX).unlink(missing_ok=True)
        elif self._last != index - 1:
            shutil.copyfile(before / DENSITY_MATRIX, directory / DENSITY_MATRIX)
        begin_from(question.guess, before, directory, NAME)
        self._last = None
        for stale in ("FORCE_STRESS", "MESSAGES"):
            (directory / stale).unlink(missing_ok=True)
        seen = (directory / OUTPUT).stat().st_size
        done, _ = server.compute(question.atoms, self._job.patience.limit_s)
        found = read_label(
            directory,
            question.atoms,
            done,
            question.remedies,
            warm=before is not None,
            completed=server.runs,
            seen=seen,
        )
        if isinstance(found, LabelFailure):
            return found
        kept = self._job.directories.fresh(index)
        for name in (DENSITY_MATRIX, _ORBITALS, INPUT):
            if (directory / name).exists():
                shutil.copyfile(directory / name, kept / name)
        self._last = index
        answer, cycles = found
        return Ended(self._job.labels(directory, answer, done, cycles=cycles), directory)

    def stop(self) -> None:
        """End the server; may be called twice."""
        if self._server is not None:
            self._server.stop()
        self._server = None
        self._last = None

    def _fitting(self, question: Question) -> Client:
        """The running server, or a new one if none fits the label."""
        follows = question.before is not None and self._last == question.index - 1
        changes = tuple(r for r in question.remedies if r in CHANGE_INPUT)
        fits = self._remedies == changes and (follows or not self._extrapolates)
        if self._server is None or not self._server.runs or not fits:
            return self._start(question.atoms, changes)
        return self._server

    def _start(self, atoms: Atoms, remedies: tuple[str, ...]) -> Client:
        """Start a server in a new directory; the last one's directory is kept for inspection."""
        self.stop()
        old = sorted(self._job.scratch.glob("server-*"))
        number = 1 + int(old[-1].name.removeprefix("server-")) if old else 0
        for path in old[:-1]:
            shutil.rmtree(path, ignore_errors=True)
        directory = self._job.scratch / f"server-{number:06d}"
        directory.mkdir()
        listener = Listener(self._connection, self._host)
        self._job.prepare(directory, atoms, _keywords(listener), remedies)
        self._server = Client(
            self._job.launch.words,
            directory,
            listener,
            stdin=INPUT,
            stdout=OUTPUT,
            stderr=ERRORS,
            environment=self._job.launch.environment,
            bohr_A=lambda: units_of(directory).bohr_A,
        )
        self._remedies = remedies
        return self._server


def _keywords(listener: Listener) -> dict[str, object]:
    """Input keywords that make SIESTA connect."""
    keywords: dict[str, object] = {
        "MD.TypeOfRun": "Master",
        "Master.code": "i-pi",
        "Master.interface": "socket",
        "Master.socketType": listener.kind,
        "Master.address": listener.address,
    }
    return keywords if listener.port is None else keywords | {"Master.port": listener.port}

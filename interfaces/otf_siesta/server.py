"""SIESTA as a server: one process that computes successive structures sent over a socket.

The i-PI protocol (Kapil et al., Comput. Phys. Commun. 236, 214, 2019; SIESTA 4.1 manual, "Master"):
otf listens, SIESTA connects. Only the structure goes over the socket; results are read from files,
which have more digits.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import time
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from ase.calculators.socketio import IPIProtocol, SocketClosed, actualunixsocketname

from otf.engines.launch import Launch
from otf.engines.process import Finished, end_group, start_program
from otf_siesta.output import BOHR_A

_LOOK_S = 0.2  # between checks of a process that has not connected yet
_GOODBYE_S = 10.0  # from EXIT to the end of the process
# The output is read while SIESTA runs: gfortran must not buffer it.
_UNBUFFERED = {"GFORTRAN_UNBUFFERED_PRECONNECTED": "y"}


class Door:
    """A listening socket, whose address the input file gives to SIESTA.

    Parameters
    ----------
    kind
        Unix or inet.
    host
        Name of this machine for inet.
    """

    def __init__(self, kind: Literal["unix", "inet"], host: str) -> None:
        self.kind = kind
        self.address: str
        self.port: int | None
        self._path: str | None = None
        if kind == "unix":
            self.address, self.port = f"otf_{os.getpid()}_{secrets.token_hex(4)}", None
            self._path = actualunixsocketname(self.address)
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(self._path)
        else:
            self._socket = socket.create_server((host, 0))
            # A number: SIESTA tries the first address of a name only.
            self.address, self.port = self._socket.getsockname()[:2]
        self._socket.listen(1)
        self._socket.settimeout(_LOOK_S)

    def keywords(self) -> dict[str, object]:
        """Input keywords that make SIESTA connect."""
        keywords: dict[str, object] = {
            "MD.TypeOfRun": "Master",
            "Master.code": "i-pi",
            "Master.interface": "socket",
            "Master.socketType": self.kind,
            "Master.address": self.address,
        }
        return keywords if self.port is None else keywords | {"Master.port": self.port}

    def wait(self, process: subprocess.Popen[bytes], until: float) -> socket.socket | None:
        """The connection, or None if the process ends or the time is over first."""
        while time.monotonic() < until:
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                if process.poll() is not None:
                    return None
            else:
                return connection
        return None

    def close(self) -> None:
        """Stop listening; may be called twice."""
        self._socket.close()
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(self._path).unlink()


class Server:
    """A running SIESTA.

    Parameters
    ----------
    launch
        Command and environment.
    directory
        Directory of the input file.
    door
        Socket that it connects to.
    stdin, stdout, stderr
        Files in the directory.
    """

    def __init__(
        self,
        launch: Launch,
        directory: Path,
        door: Door,
        *,
        stdin: str,
        stdout: str,
        stderr: str,
    ) -> None:
        self.directory = directory
        self._door = door
        self._connection: socket.socket | None = None
        self._process = start_program(
            launch.words,
            directory,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            environment=launch.environment | _UNBUFFERED,
        )

    def compute(self, atoms: Atoms, timeout_s: float) -> Finished:
        """Compute a structure.

        Returns
        -------
        Exit code 0 if the server is still running, else how its process ended.
        """
        began = time.monotonic()
        try:
            if self._exchange(atoms, began + timeout_s):
                return Finished(0, timed_out=False, wall_s=time.monotonic() - began)
            late = time.monotonic() >= began + timeout_s
        except TimeoutError:
            late = True
        except (SocketClosed, OSError):
            late = False
        self._end(0.0 if late else _GOODBYE_S)
        return Finished(self._process.wait(), late, time.monotonic() - began)

    def stop(self) -> None:
        """Send EXIT and end the process; may be called twice."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                IPIProtocol(self._connection).sendmsg("EXIT")
        self._end(_GOODBYE_S if self._connection is not None else 0.0)

    @property
    def runs(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def _exchange(self, atoms: Atoms, until: float) -> bool:
        """Send a structure and wait for its results; False if SIESTA does not connect."""
        if self._connection is None:
            self._connection = self._door.wait(self._process, until)
            self._door.close()
        if self._connection is None:
            return False
        talk = IPIProtocol(self._connection)
        self._connection.settimeout(max(0.001, until - time.monotonic()))
        talk.sendmsg("STATUS")
        talk.recvmsg()
        cell = atoms.cell.array / BOHR_A
        talk.sendmsg("POSDATA")
        talk.send(cell.T, np.float64)
        talk.send(np.linalg.inv(cell).T, np.float64)
        talk.send(len(atoms), np.int32)
        talk.send(atoms.positions / BOHR_A, np.float64)
        with contextlib.suppress(AssertionError):  # raised by ASE for numbers that are not finite
            talk.sendrecv_force()  # answered when the files are written
        return True

    def _end(self, patience_s: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        end_group(self._process)
        self._door.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

"""A DFT program that computes structures sent to it over a socket, by the i-PI protocol.

The protocol: Ceriotti, More & Manolopoulos, Comput. Phys. Commun. 185, 1019 (2014), and the manual
of i-PI. otf listens; the program connects, and is the client. Messages are in atomic units.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms, units
from ase.calculators.socketio import IPIProtocol, SocketClosed, actualunixsocketname

from otf.arrays import Floats
from otf.engines.process import Finished, end_group, start_program

_LOOK_S = 0.2  # between checks of a process that has not connected yet
_GOODBYE_S = 10.0  # from EXIT to the end of the process
# The output is read while the program runs: gfortran must not buffer it.
_UNBUFFERED = {"GFORTRAN_UNBUFFERED_PRECONNECTED": "y"}


class Listener:
    """A listening socket, whose address is given to the program.

    Parameters
    ----------
    kind
        Unix or inet.
    host
        Name of this machine for inet.

    Attributes
    ----------
    address
        Name of the unix socket, without the prefix ``/tmp/ipi_`` that programs add; or the host.
    port
        Port of an inet socket.
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
            # A number: some programs try the first address of a name only.
            self.address, self.port = self._socket.getsockname()[:2]
        self._socket.listen(1)
        self._socket.settimeout(_LOOK_S)

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


@dataclass(frozen=True, eq=False)
class Sent:
    """What a program sent for a structure.

    Attributes
    ----------
    energy
        eV.
    forces
        (N, 3) eV/Angstrom.
    virial
        (3, 3) eV: minus the derivative of the energy with respect to strain.
    """

    energy: float
    forces: Floats
    virial: Floats


class Client:
    """A running program that is sent structures.

    Parameters
    ----------
    command
        Program and arguments.
    directory
        Working directory.
    listener
        Socket that it connects to.
    stdin, stdout, stderr
        Files in the directory.
    environment
        Variables added to its environment.
    bohr_A
        Length of the program's own bohr, for structures that arrive with all digits; called once
        it has connected.
    """

    def __init__(
        self,
        command: list[str],
        directory: Path,
        listener: Listener,
        *,
        stdout: str,
        stderr: str,
        stdin: str | None = None,
        environment: Mapping[str, str],
        bohr_A: Callable[[], float] = lambda: float(units.Bohr),
    ) -> None:
        self.directory = directory
        self._listener = listener
        self._bohr_A = bohr_A
        self._connection: socket.socket | None = None
        self._process = start_program(
            command,
            directory,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            environment=_UNBUFFERED | dict(environment),
        )

    def compute(self, atoms: Atoms, timeout_s: float) -> tuple[Finished, Sent | None]:
        """Compute a structure.

        Returns
        -------
        Exit code 0 if the program is still running, else how its process ended; and what it sent,
        None if it sent nothing or numbers that are not finite.
        """
        began = time.monotonic()
        try:
            connected, sent = self._exchange(atoms, began + timeout_s)
            if connected:
                return Finished(0, timed_out=False, wall_s=time.monotonic() - began), sent
            late = time.monotonic() >= began + timeout_s
        except TimeoutError:
            late = True
        except (SocketClosed, OSError):
            late = False
        self._end(0.0 if late else _GOODBYE_S)
        return Finished(self._process.wait(), late, time.monotonic() - began), None

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

    def _exchange(self, atoms: Atoms, until: float) -> tuple[bool, Sent | None]:
        """Send a structure and wait for its results; False if the program does not connect."""
        if self._connection is None:
            self._connection = self._listener.wait(self._process, until)
            self._listener.close()
        if self._connection is None:
            return False, None
        talk = IPIProtocol(self._connection)
        self._connection.settimeout(max(0.001, until - time.monotonic()))
        if talk.status() == "NEEDINIT":
            _initialise(talk)
        scale = units.Bohr / self._bohr_A()
        cell = atoms.cell.array * scale
        talk.sendposdata(cell, np.linalg.inv(cell), atoms.positions * scale)
        talk.status()  # answered when the results are there
        try:
            energy, forces, virial, _ = talk.sendrecv_force()
        except AssertionError:  # raised by ASE for numbers that are not finite
            return True, None
        return True, Sent(float(energy), forces, virial)

    def _end(self, patience_s: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        end_group(self._process)
        self._listener.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _initialise(talk: IPIProtocol) -> None:
    """Answer NEEDINIT: the number of a replica, and an unused string of one byte."""
    talk.sendmsg("INIT")
    talk.send(0, np.int32)
    talk.send(1, np.int32)
    talk.send(np.zeros(1, np.byte), np.byte)
    talk.status()

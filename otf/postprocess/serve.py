"""A calculator as a client of the i-PI socket protocol, driven by i-PI, ASE and others.

The protocol is that of Ceriotti, More and Manolopoulos, Comput. Phys. Commun. 185, 1019 (2014), in
the implementation of ASE. Lengths and energies on the wire are atomic units.
"""

import socket
import time
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.socketio import SocketClient, SocketClosed

from otf.errors import RunError
from otf.learning.calculator import ModelCalculator
from otf.learning.force_model import ForceModel

_AGAIN_S = 0.2


@dataclass(frozen=True)
class Address:
    """Where the driving program listens: a host and port, or the name of a unix socket."""

    host: str = "localhost"
    port: int | None = None
    unix: str | None = None

    def __str__(self) -> str:
        return f"unix socket {self.unix}" if self.unix else f"{self.host}:{self.port}"


def serve_model(model: ForceModel, atoms: Atoms, address: Address, *, wait_s: float) -> int:
    """Serve a learned model; see :func:`serve`.

    Raises
    ------
    RunError
        Also if the model cannot describe the structure, or its forces have no potential.
    """
    known = set(model.energy_model.descriptor.species.tolist())
    strangers = sorted(set(atoms.symbols[[z not in known for z in atoms.numbers]]))
    if strangers:
        raise RunError(f"the model has not learned {', '.join(strangers)}; serve another one")
    if model.energy_model.coupling == "self":
        raise RunError("the model's forces have no potential (coupling: self); learn another one")
    return serve(ModelCalculator(model), atoms, address, wait_s=wait_s)


def serve(calculator: Calculator, atoms: Atoms, address: Address, *, wait_s: float) -> int:
    """Answer until the driving program ends; return the number of structures.

    Parameters
    ----------
    atoms
        Species in their order, and periodicity; positions and cell come from the driving program.
    wait_s
        Seconds to wait for the driving program to listen.

    Raises
    ------
    RunError
        If it does not listen, or requests what the calculator cannot compute.
    """
    atoms.set_constraint()
    atoms.calc = calculator
    client = _connected(address, time.monotonic() + wait_s)
    answered = 0
    try:
        for _ in client.irun(atoms, use_stress=bool(atoms.pbc.all())):
            answered += 1
            if not np.isfinite(atoms.get_potential_energy()):
                raise RunError("the energy is not finite: atoms overlap")
    except (UnicodeDecodeError, MemoryError, AssertionError) as error:
        raise RunError(
            f"{address}: what was received is not of the i-PI protocol, or not finite "
            f"({str(error) or 'numbers'}); is this the port of the driving program?"
        ) from error
    except ValueError as error:
        raise RunError(
            f"{address}: the driving program does not have the {len(atoms)} atoms of the "
            f"structure ({error}); give a file with its own: --structure FILE"
        ) from error
    except (SocketClosed, ConnectionError) as error:
        raise RunError(f"{address}: the driving program closed the connection ({error})") from error
    return answered


def _connected(address: Address, until: float) -> SocketClient:
    while True:
        try:
            return SocketClient(host=address.host, port=address.port, unixsocket=address.unix)
        except (ConnectionError, FileNotFoundError, socket.gaierror) as error:
            if time.monotonic() > until:
                raise RunError(
                    f"{address}: no program listens ({error}); start i-PI or another driver first"
                ) from error
            time.sleep(_AGAIN_S)

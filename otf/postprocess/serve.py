"""A learned model as a client of the i-PI socket protocol (i-PI, ASE and others drive it).

The protocol is that of Ceriotti, More and Manolopoulos, Comput. Phys. Commun. 185, 1019 (2014), in
the implementation of ASE. Lengths and energies on the wire are atomic units.
"""

import socket
import time
from dataclasses import dataclass

import numpy as np
from ase import Atoms
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


def serve(model: ForceModel, atoms: Atoms, address: Address, *, wait_s: float) -> int:
    """Answer until the driving program ends; how many structures it asked for.

    Parameters
    ----------
    atoms
        Species in their order, and periodicity; positions and cell come from the other side.
    wait_s
        How long to wait for it to listen.

    Raises
    ------
    RunError
        If it does not listen, or asks for what the model cannot do.
    """
    known = set(model.energy_model.descriptor.species.tolist())
    strangers = sorted(set(atoms.symbols[[z not in known for z in atoms.numbers]]))
    if strangers:
        raise RunError(f"the model has not learned {', '.join(strangers)}; serve another one")
    if model.energy_model.coupling == "self":
        raise RunError("the model's forces have no potential (coupling: self); learn another one")
    atoms.set_constraint()
    atoms.calc = ModelCalculator(model)
    client = _connected(address, time.monotonic() + wait_s)
    answered = 0
    try:
        for _ in client.irun(atoms, use_stress=bool(atoms.pbc.all())):
            answered += 1
            if not np.isfinite(atoms.get_potential_energy()):
                raise RunError("the structure has no energy: atoms are on top of each other")
    except ValueError as error:
        raise RunError(
            f"{address}: the other side does not have the {len(atoms)} atoms of the model's "
            f"structure ({error}); name a file with its own: --structure FILE"
        ) from error
    except (SocketClosed, ConnectionError) as error:
        raise RunError(f"{address}: the other side went away ({error})") from error
    return answered


def _connected(address: Address, until: float) -> SocketClient:
    while True:
        try:
            return SocketClient(host=address.host, port=address.port, unixsocket=address.unix)
        except (ConnectionError, FileNotFoundError, socket.gaierror) as error:
            if time.monotonic() > until:
                raise RunError(
                    f"{address}: nobody listens ({error}); start i-PI or what drives it first"
                ) from error
            time.sleep(_AGAIN_S)

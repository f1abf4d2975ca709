"""A program that computes structures by EMT, sent over the i-PI protocol.

Arguments: structure file, address (name of a unix socket, or ``host:port``), and what it does from
the second label on: ``works``, ``lies`` (does not report convergence), ``fails`` (reports a
failure), ``stalls`` (does not answer) or ``breaks`` (ends).
"""

import sys
import time

import ase.io
from ase.calculators.emt import EMT
from ase.calculators.socketio import SocketClient


def main() -> None:
    structure, address, behaviour = sys.argv[1:]
    atoms = ase.io.read(structure)
    atoms.calc = EMT()
    host, _, port = address.partition(":")
    client = SocketClient(host=host, port=int(port)) if port else SocketClient(unixsocket=address)
    print("emt version 1.0", flush=True)
    for number, _ in enumerate(client.irun(atoms, use_stress=True)):  # computed, but not yet sent
        if number > 0 and behaviour == "stalls":
            time.sleep(60)
        if number > 0 and behaviour == "breaks":
            sys.exit("out of ideas")
        if number > 0 and behaviour == "fails":
            print("the cycle diverges", flush=True)
        if number == 0 or behaviour != "lies":
            print("converged after 7 cycles", flush=True)


if __name__ == "__main__":
    main()

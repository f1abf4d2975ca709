"""A program that computes structures by EMT, sent over the i-PI protocol.

Arguments: structure file, address (``name`` of a unix socket or ``host:port``), and what it does:
``works``, ``lies`` (does not report convergence from the second label on), ``fails`` (reports a
failure), ``stalls`` (never answers), or ``breaks`` (ends in its second label).
"""

import sys
import time

import ase.io
from ase.calculators.emt import EMT
from ase.calculators.socketio import SocketClient

structure, address, behaviour = sys.argv[1:]
atoms = ase.io.read(structure)
atoms.calc = EMT()
host, _, port = address.partition(":")
client = (
    SocketClient(host=host, port=int(port)) if port else SocketClient(unixsocket=address)
)
print("emt version 1.0", flush=True)
for number, _ in enumerate(client.irun(atoms, use_stress=True)):
    if number % 2 == 0:  # a structure has arrived and is not yet computed
        continue
    if behaviour == "stalls":
        time.sleep(60)
    if behaviour == "breaks" and number > 1:
        sys.exit("out of ideas")
    if behaviour == "fails" and number > 1:
        print("the cycle diverges", flush=True)
    if behaviour != "lies" or number == 1:
        print("converged after 7 cycles", flush=True)

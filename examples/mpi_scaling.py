"""Time per step of a learned model on several MPI ranks, for a repeated structure.

mpirun -n 2 python examples/mpi_scaling.py runs/mysystem --repeat 4
"""

import argparse
import time
from pathlib import Path

import numpy as np

from otf.model.ranks import MpiRanks, started_ranks, worker_loop, world_of
from otf.postprocess.stored_model import stored_model

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", type=Path)
parser.add_argument("--repeat", type=int, default=1)
parser.add_argument("--steps", type=int, default=10)
options = parser.parse_args()

ranks = None
if started_ranks() > 1:
    world = world_of(started_ranks())
    if world.rank:
        worker_loop(world)
        raise SystemExit
    ranks = MpiRanks(world)

model, atoms = stored_model(options.run, None)
atoms = atoms.repeat(options.repeat)
model.energy_model.ranks = ranks
model.energy_model.workers.threads = 1
model.predict(atoms)  # compiles
rng, steps = np.random.default_rng(1), []
for _ in range(options.steps):
    atoms.positions += rng.normal(scale=0.002, size=atoms.positions.shape)
    began = time.perf_counter()
    model.predict(atoms)
    steps.append(time.perf_counter() - began)
if ranks is not None:
    ranks.end()
median = float(np.median(steps))
print(
    f"{len(atoms)} atoms, {started_ranks()} ranks: {1e3 * median:.2f} ms per step, "
    f"{1e6 * median / len(atoms):.2f} us per atom"
)

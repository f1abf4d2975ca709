"""Radial distribution function of a run: python examples/rdf.py runs/silicon [CUTOFF_A]."""

import sys
from pathlib import Path

import numpy as np
from ase.neighborlist import neighbor_list

from otf.io.trajectory import read_trajectory

run, cutoff = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 6.0
trajectory = read_trajectory(run / "trajectory.h5")
if not trajectory.atoms.pbc.all():
    sys.exit(f"{run}: is not periodic in three directions, so it has no density to compare with")
edges = np.linspace(0.0, cutoff, 121)
shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)

# The second half, cut into five blocks whose scatter gives the error of the mean.
chosen = np.arange(len(trajectory) // 2, len(trajectory), 5)
blocks = []
for block in np.array_split(chosen, 5):
    counts = np.zeros(len(shells))
    for i in block:
        atoms = trajectory.frame(int(i))
        counts += np.histogram(neighbor_list("d", atoms, cutoff), edges)[0]
    density = len(atoms) / atoms.get_volume()
    blocks.append(counts / (len(block) * len(atoms) * density * shells))
mean, error = np.mean(blocks, axis=0), np.std(blocks, axis=0, ddof=1) / np.sqrt(len(blocks))

print("# r_A g(r) standard_error")
for r, g, e in zip(0.5 * (edges[1:] + edges[:-1]), mean, error, strict=True):
    print(f"{r:.3f} {g:.4f} {e:.4f}")

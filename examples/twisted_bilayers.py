"""Hamiltonians learned from shifted bilayers of graphene, applied to twisted ones.

python -m examples.twisted_bilayers --siesta siesta --pseudos FOLDER

After Tang et al., arXiv:2406.17561 (DeepH-DM). Labels are PBE by SIESTA; levels are compared near
the Fermi level, for the learned Hamiltonian and for the one that SIESTA computes of its density in
one step. Takes half an hour.
"""

import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import graphene

from examples.carbon_by_siesta import BOND_A, VACUUM_A, Siesta, parser_of
from otf.electrons.levels import Levels

DISTANCE_A = 3.35
NEAR_EV = 3.0  # of the Fermi level

parser = parser_of(__doc__)
parser.add_argument("--twisted", nargs="+", default=["2,1", "3,2", "4,3"], help="such as 3,2")
options = parser.parse_args()
LATTICE = np.sqrt(3) * BOND_A * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
BASIS = np.array([[0.0, 0.0], [0.0, BOND_A]])


def shifted(seed: int) -> Atoms:
    """Two sheets of 18 atoms, one shifted at random, with random displacements."""
    rng = np.random.default_rng(seed)
    lower = graphene(a=np.sqrt(3) * BOND_A, size=(3, 3, 1))
    upper = lower.copy()
    upper.positions += (*(rng.uniform(size=2) @ LATTICE), DISTANCE_A + 0.1 * rng.normal())
    atoms = lower + upper
    atoms.center(vacuum=VACUUM_A, axis=2)
    atoms.pbc = True
    atoms.positions += rng.normal(scale=0.03, size=(len(atoms), 3))
    return atoms


def twisted(m: int, n: int) -> Atoms:
    """The commensurate bilayer of 4 (m^2 + m n + n^2) atoms."""
    layers = []
    for (a, b), height in (((m, n), 0.0), ((n, m), DISTANCE_A)):
        cell = np.array([[a, b], [-b, a + b]]) @ LATTICE
        span = np.arange(-2 * (m + n), 2 * (m + n) + 1)
        sites = np.stack(np.meshgrid(span, span), axis=-1).reshape(-1, 1, 2) @ LATTICE + BASIS
        inside = sites.reshape(-1, 2) @ np.linalg.inv(cell)
        inside = inside[((inside > -1e-6) & (inside < 1 - 1e-6)).all(axis=1)]
        layers.append((cell, inside, height))
    cell = layers[0][0]  # that of the other layer is a mirror image of equal shape
    positions = [np.column_stack([s @ cell, np.full(len(s), z)]) for _, s, z in layers]
    whole = np.zeros((3, 3))
    whole[:2, :2], whole[2, 2] = cell, 1.0
    atoms = Atoms("C" * sum(map(len, positions)), np.concatenate(positions), cell=whole)
    atoms.center(vacuum=VACUUM_A, axis=2)
    atoms.pbc = True
    return atoms


def near_meV(found: Levels, true: Levels) -> float:
    """Mean absolute error of levels near the Fermi level."""
    near = np.abs(true.energies - true.fermi_level) < NEAR_EV
    return 1e3 * float(np.abs(found.energies - true.energies)[near].mean())


with tempfile.TemporaryDirectory() as folder:
    siesta = Siesta(options.siesta, options.pseudos, options.basis, Path(folder))
    model = siesta.learned([shifted(k) for k in range(options.train)], (4, 4, 1))
    print(f"learned {options.train} bilayers", flush=True)
    print("bilayer  atoms  degrees  H_meV  levels_meV  after_step")
    for name in options.twisted:
        m, n = map(int, name.split(","))
        atoms = twisted(m, n)
        angle = np.degrees(np.arccos((m * m + 4 * m * n + n * n) / (2 * (m * m + m * n + n * n))))
        found = siesta.compared(model, atoms, (2, 2, 1), name)
        true, learned, stepped = found.levels()
        print(
            f"({m}, {n}) {len(atoms):7d} {angle:8.1f} {found.error_meV():6.1f}"
            f" {near_meV(learned, true):11.1f} {near_meV(stepped, true):11.1f}",
            flush=True,
        )

"""Hamiltonians learned from rippled graphene, applied to carbon nanotubes.

python -m examples.graphene_to_nanotubes --siesta siesta --pseudos FOLDER
python -m examples.graphene_to_nanotubes --siesta siesta --pseudos FOLDER --tubes 4,4 5,5 6,6 8,8

After Tang et al., arXiv:2406.17561 (DeepH-DM), whose error also falls with the diameter. Labels
are PBE by SIESTA. Gaps are those of the learned Hamiltonian, and of the one that SIESTA computes of
its density in one step. Takes a quarter of an hour.
"""

import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import graphene, nanotube

from examples.carbon_by_siesta import BOND_A, VACUUM_A, Siesta, parser_of

parser = parser_of(__doc__)
parser.add_argument(
    "--tubes", nargs="+", default=["6,0", "8,0", "10,0", "12,0", "16,0"], help="such as 8,0"
)
options = parser.parse_args()


def rippled(seed: int) -> Atoms:
    """A sheet of 32 atoms with commensurate ripples and random displacements."""
    rng = np.random.default_rng(seed)
    atoms = graphene(a=np.sqrt(3) * BOND_A, size=(4, 4, 1), vacuum=VACUUM_A)
    atoms.pbc = True
    scaled = atoms.get_scaled_positions()
    for wave in ((1, 0), (0, 1), (1, 1)):
        phase = 2.0 * np.pi * (scaled[:, :2] @ wave + rng.uniform())
        atoms.positions[:, 2] += rng.uniform(0.0, 0.5) * np.cos(phase)
    atoms.set_cell(atoms.cell * np.array([[1 + 0.02 * rng.normal()]] * 2 + [[1.0]]), True)
    atoms.positions += rng.normal(scale=0.03, size=(len(atoms), 3))
    return atoms


def tube(n: int, m: int) -> Atoms:
    """A nanotube (n, m) with random displacements."""
    atoms = nanotube(n, m, length=1, bond=BOND_A)
    atoms.center(vacuum=VACUUM_A, axis=(0, 1))
    atoms.pbc = True
    atoms.positions += np.random.default_rng(n).normal(scale=0.02, size=(len(atoms), 3))
    return atoms


with tempfile.TemporaryDirectory() as folder:
    siesta = Siesta(options.siesta, options.pseudos, options.basis, Path(folder))
    model = siesta.learned([rippled(k) for k in range(options.train)], (3, 3, 1))
    print(f"learned {options.train} sheets", flush=True)
    print("tube    diameter_A  atoms  H_meV  occupied_meV  gap_meV  after_step  of")
    for name in options.tubes:
        n, m = map(int, name.split(","))
        atoms = tube(n, m)
        found = siesta.compared(model, atoms, (1, 1, 6), name)
        true, learned, stepped = found.levels()
        occupied = np.abs(learned.energies - true.energies)[: true.occupied].mean()
        gaps = [1e3 * levels.gap for levels in (learned, stepped, true)]
        diameter = np.sqrt(3 * (n * n + n * m + m * m)) * BOND_A / np.pi
        print(
            f"({n:2d},{m:2d}) {diameter:10.1f} {len(atoms):6d} {found.error_meV():6.1f}"
            f" {1e3 * occupied:13.1f} {gaps[0]:8.0f} {gaps[1]:11.0f} {gaps[2]:5.0f}",
            flush=True,
        )

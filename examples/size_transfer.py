"""Hamiltonians learned from short alkane chains, put to work on a longer one, without a cycle.

python examples/size_transfer.py --train 4 5 6 --each 10 --test 24

Structures are thermal (GFN2-xTB, 300 K); labels are PBE by PySCF. Takes some minutes.
"""

import argparse
import time

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from pyscf import dft, gto
from tblite.ase import TBLite

from otf.electrons.density_matrix import of_hamiltonian
from otf.electrons.guesses import describe
from otf.electrons.matrix_model import MatrixModel
from otf.orbitals import BlockMatrix
from otf.units import BOHR, HARTREE
from otf_pyscf.one_shot import take_as_answer
from otf_pyscf.orbitals import from_blocks, shells_of, to_blocks

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--train", type=int, nargs="+", default=[4, 5, 6], help="carbons in a chain")
parser.add_argument("--each", type=int, default=10, help="structures of each")
parser.add_argument("--test", type=int, default=24, help="carbons in the long one")
parser.add_argument("--basis", default="6-31g")
options = parser.parse_args()


def chain(carbons: int) -> Atoms:
    """An alkane, all its carbons in a zigzag."""
    spacing, height, up, out = 1.27, 0.42, 0.63, 0.89
    symbols, places = [], []
    for k in range(carbons):
        side = 1.0 if k % 2 else -1.0
        symbols += ["C", "H", "H"]
        x, y = spacing * k, side * height
        places += [(x, y, 0.0), (x, y + side * up, out), (x, y + side * up, -out)]
    for k, way in ((0, -1.0), (carbons - 1, 1.0)):
        side = 1.0 if k % 2 else -1.0
        symbols.append("H")
        places.append((spacing * k + 0.9 * way, side * (height - 0.6), 0.0))
    return Atoms(symbols, places)


def thermal(atoms: Atoms, count: int, seed: int) -> list[Atoms]:
    """Structures of a trajectory at 300 K, 25 fs apart."""
    rng = np.random.RandomState(seed)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=rng)
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=300, friction=0.05 / units.fs, rng=rng, fixcm=False
    )
    dynamics.run(400)
    found = []
    for _ in range(count):
        dynamics.run(50)
        found.append(Atoms(atoms.numbers, atoms.positions))
    return found


def pbe(atoms: Atoms) -> dft.rks.RKS:
    """A calculation, not yet done."""
    geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True))
    return dft.RKS(gto.M(atom=geometry, basis=options.basis, verbose=0), xc="pbe")


def forces(calculation: dft.rks.RKS) -> np.ndarray:
    """Forces in meV/Angstrom."""
    gradient = calculation.nuc_grad_method()
    gradient.grid_response = True
    return -1e3 * gradient.kernel() * HARTREE / BOHR


model = None
for carbons in options.train:
    for atoms in thermal(chain(carbons), options.each, carbons):
        calculation = pbe(atoms)
        calculation.kernel()
        overlap = calculation.get_ovlp()
        orbitals = overlap @ calculation.mo_coeff
        hamiltonian = to_blocks(
            HARTREE * orbitals * calculation.mo_energy @ orbitals.T, calculation.mol
        )
        if model is None:
            shells = shells_of(calculation.mol)
            model = MatrixModel(shells, ("hamiltonian",), describe(hamiltonian))
        model.learn(atoms, {"hamiltonian": hamiltonian})
    print(f"learned {options.each} structures of C{carbons}H{2 * carbons + 2}", flush=True)
assert model is not None

(atoms,) = thermal(chain(options.test), 1, 1)
exact, shot = pbe(atoms), pbe(atoms)
began = time.perf_counter()
exact.kernel()
scf_s = time.perf_counter() - began
began = time.perf_counter()
found = model.predict(atoms)["hamiltonian"]
overlap = to_blocks(exact.get_ovlp(), exact.mol).dense()
density = of_hamiltonian(found.dense(), overlap, float(exact.mol.nelectron))
guess = BlockMatrix.of_dense(found.numbers, model.shells, density)
gradient = take_as_answer(shot, from_blocks(guess, shot.mol))
shot_s = time.perf_counter() - began
difference = forces(shot) - forces(exact)
n = len(atoms)
print(
    f"tested on C{options.test}H{2 * options.test + 2}, {n} atoms; orbital gradient {gradient:.1e}"
)
print(
    f"forces off by {np.abs(difference).mean():.2f} meV/A in the mean, "
    f"{np.abs(difference).max():.1f} at most; "
    f"energy by {1e3 * HARTREE * abs(shot.e_tot - exact.e_tot) / n:.4f} meV/atom"
)
print(f"self-consistency {scf_s:.0f} s, learned Hamiltonian and one shot {shot_s:.0f} s")

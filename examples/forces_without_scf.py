"""Forces from learned matrices without SCF, in three ways.

python examples/forces_without_scf.py --molecule C2H6 --train 60 --test 10

direct: density matrix and energy density matrix are learned and used unchanged (as in HamGNN-DM);
purified: the density matrix is learned and purified, and the energy density matrix is rebuilt with
its Hamiltonian; diagonalised: the Hamiltonian is learned and diagonalised. Structures are thermal
(GFN2-xTB), labels by PySCF.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from pyscf import dft, gto
from tblite.ase import TBLite

from otf.arrays import Floats
from otf.electrons.density_guesses import describe
from otf.electrons.density_matrix import energy_density, of_hamiltonian, purified
from otf.electrons.matrix_model import MatrixModel
from otf.engines.labels import LabelFailure
from otf.orbitals.block_matrices import BlockMatrix
from otf.units import BOHR, HARTREE
from otf_pyscf.engine import Options, PyscfEngine
from otf_pyscf.one_shot import take_as_answer
from otf_pyscf.orbitals import from_blocks

NAMES = ("hamiltonian", "overlap", "density", "energy_density")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--molecule", default="C2H6", help="as ASE names it")
parser.add_argument("--basis", default="def2-svp")
parser.add_argument("--train", type=int, default=60, help="structures")
parser.add_argument("--test", type=int, default=10, help="structures")
parser.add_argument("--temperature", type=float, default=300.0, help="K")
parser.add_argument("--spacing", type=int, default=25, help="fs between structures")
options = parser.parse_args()


def thermal(count: int) -> list[Atoms]:
    """Structures of a trajectory."""
    rng = np.random.RandomState(1)
    atoms = molecule(options.molecule)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    thermalize_momenta(atoms, temperature_K=options.temperature, rng=rng)
    dynamics = Langevin(
        atoms,
        0.5 * units.fs,
        temperature_K=options.temperature,
        friction=0.02 / units.fs,
        rng=rng,
        fixcm=False,
    )
    dynamics.run(1000)
    found = []
    for _ in range(count):
        dynamics.run(2 * options.spacing)
        found.append(Atoms(atoms.numbers, atoms.positions))
    return found


def calculation(atoms: Atoms) -> Any:
    """A PySCF calculation that has not been run."""
    geometry = list(zip(atoms.symbols, atoms.positions, strict=True))
    mean_field = dft.RKS(gto.M(atom=geometry, basis=options.basis, verbose=0), xc="pbe")
    mean_field.grids.level = 3
    return mean_field


def as_it_is(mean_field: Any, density: Floats, energy: Floats) -> tuple[float, Floats]:
    """Energy (eV) and forces (eV/Angstrom) of a density and an energy density matrix."""
    core, potential = mean_field.get_hcore(), mean_field.get_veff(dm=density)
    total = mean_field.energy_tot(density, core, potential)
    gradient = mean_field.nuc_grad_method()
    gradient.grid_response = True
    mean_field.make_rdm1 = lambda *_, **__: density
    gradient.make_rdm1e = lambda *_, **__: energy
    gradient._tag_rdm1 = lambda matrix, *_: matrix  # PySCF would build its density from orbitals
    none = np.empty(0)
    electrons = gradient.grad_elec(none, none, none)
    return total * HARTREE, -(electrons + gradient.grad_nuc()) * HARTREE / BOHR


def as_a_projector(mean_field: Any, density: Floats) -> tuple[float, Floats]:
    """Energy and forces of a density matrix alone, through its nearest projector."""
    take_as_answer(mean_field, density)
    gradient = mean_field.nuc_grad_method()
    gradient.grid_response = True
    return mean_field.e_tot * HARTREE, -gradient.kernel() * HARTREE / BOHR


structures = thermal(options.train + options.test)
given = Options.model_validate({"basis": options.basis, "tolerance_eV": 1e-9})
engine = PyscfEngine(given, charge=0, spin=0)
model: MatrixModel | None = None
errors: dict[str, list[tuple[float, float]]] = {}
with tempfile.TemporaryDirectory() as folder:
    engine.open(structures[0], Path(folder))
    for index, atoms in enumerate(structures):
        label, known = engine.label(atoms, index=index), engine.matrices()
        if isinstance(label, LabelFailure) or known is None:
            raise SystemExit(f"no label: {label}")
        numbers, shells = known.density.numbers, known.density.shells
        if index < options.train:
            w = energy_density(known.density.dense(), known.hamiltonian.dense())
            learned = {name: getattr(known, name) for name in NAMES[:3]}
            learned["energy_density"] = BlockMatrix.of_dense(numbers, shells, w)
            model = model or MatrixModel(shells, NAMES, describe(known.hamiltonian))
            model.learn(atoms, learned)
            continue
        assert model is not None
        mean_field = calculation(atoms)
        found = {
            name: matrix.dense()
            for name, matrix in model.predict(atoms, known.density.pairs).items()
        }
        p, overlap = found["density"], known.overlap.dense()  # overlaps are exact: integrals
        by_energies = of_hamiltonian(found["hamiltonian"], overlap, known.electrons)
        matrices = p, found["energy_density"], purified(p, overlap), by_energies
        raw, w, pure, filled = (
            from_blocks(BlockMatrix.of_dense(numbers, shells, matrix), mean_field.mol)
            for matrix in matrices
        )
        answers = {
            "direct": as_it_is(mean_field, raw, w / HARTREE),
            "purified": as_a_projector(calculation(atoms), pure),
            "diagonalised": as_a_projector(calculation(atoms), filled),
        }
        for name, (energy, forces) in answers.items():
            off = 1e3 * (energy - label.energy), 1e3 * np.abs(forces - label.forces).mean()
            errors.setdefault(name, []).append(off)
    engine.close()

print(f"{options.molecule}, {options.train} structures learned, {options.test} tested")
print("way            F_meV_A    E_meV")
for name, each in errors.items():
    energy, forces = np.abs(each).mean(axis=0)
    print(f"{name:12s} {forces:9.2f} {energy:8.4f}")

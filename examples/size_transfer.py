"""Hamiltonians learned from short alkane chains, applied to longer ones without SCF.

python examples/size_transfer.py --siesta siesta --pseudos FOLDER --train 8 9 --each 20 --test 9 32

Structures are thermal (GFN2-xTB, 300 K); labels are PBE by SIESTA. Takes some minutes.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from tblite.ase import TBLite

from otf.electrons.density.overlap import Overlaps
from otf.electrons.density_guesses import describe
from otf.electrons.density_matrix import of_hamiltonian
from otf.electrons.environment import Reach
from otf.electrons.matrix_model import MatrixModel
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import DensityGuess
from otf.orbitals.block_matrices import BlockMatrix, Matrices
from otf_siesta.engine import SiestaEngine
from otf_siesta.options import Options

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--siesta", default="siesta", help="the program")
parser.add_argument("--pseudos", required=True, help="folder with C.psf and H.psf")
parser.add_argument("--basis", default="SZP")
parser.add_argument("--train", type=int, nargs="+", default=[8, 9], help="carbons in a chain")
parser.add_argument("--each", type=int, default=20, help="structures of each length")
parser.add_argument("--test", type=int, nargs="+", default=[9, 32, 40], help="carbons")
parser.add_argument("--budget", type=int, default=5, help="budget of bond features")
parser.add_argument("--around", type=float, default=4.5, help="reach of the environments, Angstrom")
parser.add_argument("--reach", type=float, default=7.0, help="reach of bonds, Angstrom")
options = parser.parse_args()


def chain(carbons: int) -> Atoms:
    """An all-trans alkane."""
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
    thermalize_momenta(atoms, temperature_K=300, rng=rng)
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=300, friction=0.05 / units.fs, rng=rng, fixcm=False
    )
    dynamics.run(400)
    found = []
    for _ in range(count):
        dynamics.run(50)
        found.append(Atoms(atoms.numbers, atoms.positions))
    return found


def labelled(engine: SiestaEngine, atoms: Atoms) -> tuple[Labels, Matrices]:
    """Label and matrices of a structure by SIESTA."""
    answer, matrices = engine.label(atoms, index=0), engine.matrices()
    if isinstance(answer, LabelFailure) or matrices is None:
        raise SystemExit(f"no label: {answer}")
    return answer, matrices


def opened(atoms: Atoms, scratch: Path) -> SiestaEngine:
    """SIESTA for these atoms, which accepts any initial density guess after one iteration."""
    given = {
        "command": options.siesta,
        "pseudo_path": options.pseudos,
        "basis": options.basis,
        "mesh_cutoff_ry": 150,
        "connection": "process",
        "warm_start": "learned",
        "mode": "one_shot",
        "one_shot_error_meV_A": 1e6,
    }
    engine = SiestaEngine(Options.model_validate(given), charge=0, spin=0)
    engine.open(atoms, scratch)
    return engine


with tempfile.TemporaryDirectory() as folder:
    model: MatrixModel | None = None
    for carbons in options.train:
        structures = thermal(chain(carbons), options.each, carbons)
        engine = opened(structures[0], Path(folder) / str(carbons))
        for atoms in structures:
            _, matrices = labelled(engine, atoms)
            hamiltonian = matrices.hamiltonian
            if model is None:
                assert matrices.orbitals is not None
                overlaps = Overlaps(hamiltonian.shells, matrices.orbitals)
                # Environments in the long chain must have occurred in the short ones.
                description = replace(
                    describe(hamiltonian),
                    around=Reach(4, 0.4, options.around),
                    bond=Reach(8, 0.4, options.reach),
                    bond_budget=options.budget,
                )
                model = MatrixModel(hamiltonian.shells, ("hamiltonian",), description)
            model.learn(atoms, {"hamiltonian": hamiltonian})
        engine.close()
        print(f"learned {options.each} structures of C{carbons}H{2 * carbons + 2}", flush=True)

    print(
        "chain    atoms  H_meV  F_meV_A  F_max_meV_A    of E_meV_atom cycles scf_s shot_s learned_s"
    )
    assert model is not None
    for carbons in options.test:
        (atoms,) = thermal(chain(carbons), 1, 1)
        engine = opened(atoms, Path(folder) / f"test-{carbons}")
        exact, truth = labelled(engine, atoms)
        began = time.perf_counter()
        found = model.predict(atoms)["hamiltonian"]
        learned, overlap = found.dense(), overlaps.of(atoms, found.pairs).dense()
        density = of_hamiltonian(learned, overlap, truth.electrons)
        guess = DensityGuess(BlockMatrix.of_dense(atoms.numbers, truth.density.shells, density))
        learned_s = time.perf_counter() - began
        shot = engine.label(atoms, index=1, guess=guess)
        assert isinstance(shot, Labels)
        engine.close()
        # The zero of energy depends on the box, and the boxes differ.
        known, s = truth.hamiltonian.dense(), truth.overlap.dense()
        off = learned - known
        off -= np.vdot(s, off) / np.vdot(s, s) * s
        difference = 1e3 * (shot.forces - exact.forces)
        energy = 1e3 * abs(shot.energy - exact.energy) / len(atoms)
        print(
            f"C{carbons:<3d}H{2 * carbons + 2:<3d} {len(atoms):5d}"
            f" {1e3 * np.abs(off[known != 0.0]).mean():6.2f} {np.abs(difference).mean():8.2f}"
            f" {np.abs(difference).max():12.1f} {1e3 * np.abs(exact.forces).mean():5.0f}"
            f" {energy:10.4f} {exact.scf_iterations:5d} {exact.wall_s:8.0f} {shot.wall_s:6.0f}"
            f" {learned_s:8.1f}",
            flush=True,
        )

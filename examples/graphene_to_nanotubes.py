"""Hamiltonians learned from rippled graphene, applied to carbon nanotubes.

python examples/graphene_to_nanotubes.py --siesta siesta --pseudos FOLDER
python examples/graphene_to_nanotubes.py --siesta siesta --pseudos FOLDER --tubes 4,4 5,5 6,6 8,8

After Tang et al., arXiv:2406.17561 (DeepH-DM), whose error also falls with the diameter. Labels
are PBE by SIESTA. Gaps are those of the learned Hamiltonian, and of the one that SIESTA computes of
its density in one step. Takes a quarter of an hour.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import graphene, nanotube

from otf.electrons.bloch import density_of
from otf.electrons.density_guesses import describe
from otf.electrons.levels import levels_of
from otf.electrons.matrix_model import MatrixModel
from otf.engines.labels import LabelFailure
from otf.engines.protocol import DensityGuess
from otf.orbitals.block_matrices import BlockMatrix, Matrices
from otf_siesta.engine import SiestaEngine
from otf_siesta.options import Options

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--siesta", default="siesta", help="the program")
parser.add_argument("--pseudos", required=True, help="folder with C.psf")
parser.add_argument("--basis", default="SZ")
parser.add_argument("--train", type=int, default=12, help="structures of graphene")
parser.add_argument(
    "--tubes", nargs="+", default=["6,0", "8,0", "10,0", "12,0", "16,0"], help="such as 8,0"
)
options = parser.parse_args()

VACUUM_A = 6.0
BOND_A = 1.42
TEMPERATURE_K = 1000.0


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


def opened(atoms: Atoms, kpoints: list[int], scratch: Path) -> SiestaEngine:
    """SIESTA for a structure."""
    given = {
        "command": options.siesta,
        "pseudo_path": options.pseudos,
        "basis": options.basis,
        "mesh_cutoff_ry": 120,
        "kpoints": kpoints,
        "electronic_temperature_K": TEMPERATURE_K,
        "connection": "process",
        "warm_start": "learned",
    }
    engine = SiestaEngine(Options.model_validate(given), charge=0, spin=0)
    engine.open(atoms, scratch)
    return engine


def labelled(engine: SiestaEngine, atoms: Atoms) -> Matrices:
    """Converged matrices of a structure."""
    answer, matrices = engine.label(atoms, index=0), engine.matrices()
    if matrices is None:
        raise SystemExit(f"no label: {answer}")
    return matrices


def after_step(
    engine: SiestaEngine, atoms: Atoms, learned: BlockMatrix, known: Matrices
) -> Matrices:
    """Matrices by one step from the density of a learned Hamiltonian."""
    assert known.kpoints is not None
    density = density_of(learned, known.overlap, known.electrons, known.kpoints, known.smearing_eV)
    found = engine.one_step(atoms, index=1, guess=DensityGuess(density))
    if isinstance(found, LabelFailure):
        raise SystemExit(f"no Hamiltonian: {found.reason}")
    return found


def gap_meV(hamiltonian: BlockMatrix, known: Matrices) -> float:
    """Gap of a Hamiltonian of a structure with these matrices."""
    overlap = known.overlap
    return 1e3 * levels_of(hamiltonian, overlap, known.electrons, known.kpoints).gap


with tempfile.TemporaryDirectory() as folder:
    sheets, labels = [rippled(k) for k in range(options.train)], []
    for number, sheet in enumerate(sheets):
        engine = opened(sheet, [3, 3, 1], Path(folder) / f"sheet-{number}")
        labels.append(labelled(engine, sheet))
    first = labels[0].hamiltonian
    model = MatrixModel(first.shells, ("hamiltonian", "overlap"), describe(first))
    for sheet, known in zip(sheets, labels, strict=True):
        model.learn(sheet, {"hamiltonian": known.hamiltonian, "overlap": known.overlap})
    print(f"learned {options.train} sheets", flush=True)
    print("tube    diameter_A  atoms  H_meV  occupied_meV  gap_meV  after_step  of")
    for name in options.tubes:
        n, m = map(int, name.split(","))
        atoms = tube(n, m)
        engine = opened(atoms, [1, 1, 6], Path(folder) / f"tube-{name}")
        known = labelled(engine, atoms)
        found = model.predict(atoms, known.hamiltonian.pairs)["hamiltonian"]
        # The potential far from a sheet differs, so the zero of energy is arbitrary.
        off = found.values - known.hamiltonian.values
        overlap = known.overlap.on(known.hamiltonian.pairs).values
        off -= overlap * float(np.vdot(overlap, off) / np.vdot(overlap, overlap))
        there = known.hamiltonian.values != 0.0
        aligned = found.with_values(known.hamiltonian.values + off)
        truth, guess = (
            levels_of(h, known.overlap, known.electrons, known.kpoints)
            for h in (known.hamiltonian, aligned)
        )
        filled = slice(truth.occupied)
        levels_off = np.abs(guess.energies - truth.energies)[filled].mean()
        diameter = np.sqrt(3 * (n * n + n * m + m * m)) * BOND_A / np.pi
        stepped = after_step(engine, atoms, aligned, known)
        gaps = [gap_meV(h, known) for h in (aligned, stepped.hamiltonian, known.hamiltonian)]
        print(
            f"({n:2d},{m:2d}) {diameter:10.1f} {len(atoms):6d}"
            f" {1e3 * np.abs(off)[there].mean():6.1f} {1e3 * levels_off:13.1f}"
            f" {gaps[0]:8.0f} {gaps[1]:11.0f} {gaps[2]:5.0f}",
            flush=True,
        )

"""Hamiltonians learned from rippled graphene, applied to carbon nanotubes.

python examples/graphene_to_nanotubes.py --siesta siesta --pseudos FOLDER

After Tang et al., arXiv:2406.17561 (DeepH-DM), whose error also falls with the diameter. Labels
are PBE by SIESTA. Takes a quarter of an hour.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import graphene, nanotube

from otf.electrons.density_guesses import describe
from otf.electrons.levels import levels_of
from otf.electrons.matrix_model import MatrixModel
from otf.orbitals.block_matrices import Matrices
from otf_siesta.engine import SiestaEngine
from otf_siesta.options import Options

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--siesta", default="siesta", help="the program")
parser.add_argument("--pseudos", required=True, help="folder with C.psf")
parser.add_argument("--basis", default="SZ")
parser.add_argument("--train", type=int, default=12, help="structures of graphene")
parser.add_argument("--tubes", type=int, nargs="+", default=[6, 8, 10, 12, 16], help="n of (n, 0)")
options = parser.parse_args()

VACUUM_A = 6.0
BOND_A = 1.42


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


def tube(n: int) -> Atoms:
    """A nanotube (n, 0) with random displacements."""
    atoms = nanotube(n, 0, length=1, bond=BOND_A)
    atoms.center(vacuum=VACUUM_A, axis=(0, 1))
    atoms.pbc = True
    atoms.positions += np.random.default_rng(n).normal(scale=0.02, size=(len(atoms), 3))
    return atoms


def labelled(atoms: Atoms, kpoints: list[int], scratch: Path) -> Matrices:
    """Matrices of a structure."""
    given = {
        "command": options.siesta,
        "pseudo_path": options.pseudos,
        "basis": options.basis,
        "mesh_cutoff_ry": 120,
        "kpoints": kpoints,
        "electronic_temperature_K": 1000.0,
        "connection": "process",
        "warm_start": "learned",
    }
    engine = SiestaEngine(Options.model_validate(given), charge=0, spin=0)
    engine.open(atoms, scratch)
    answer = engine.label(atoms, index=0)
    matrices = engine.matrices()
    engine.close()
    if matrices is None:
        raise SystemExit(f"no label: {answer}")
    return matrices


with tempfile.TemporaryDirectory() as folder:
    sheets = [rippled(k) for k in range(options.train)]
    labels = [
        labelled(sheet, [3, 3, 1], Path(folder) / f"sheet-{k}") for k, sheet in enumerate(sheets)
    ]
    first = labels[0].hamiltonian
    model = MatrixModel(first.shells, ("hamiltonian", "overlap"), describe(first))
    for sheet, known in zip(sheets, labels, strict=True):
        model.learn(sheet, {"hamiltonian": known.hamiltonian, "overlap": known.overlap})
    print(f"learned {options.train} sheets", flush=True)
    print("tube    diameter_A  atoms  H_meV  occupied_meV  gap_meV  of")
    for n in options.tubes:
        atoms = tube(n)
        known = labelled(atoms, [1, 1, 6], Path(folder) / f"tube-{n}")
        found = model.predict(atoms, known.hamiltonian.pairs)
        # The potential far from a sheet differs, so the zero of energy is arbitrary.
        off = found["hamiltonian"].values - known.hamiltonian.values
        overlap = known.overlap.on(known.hamiltonian.pairs).values
        shift = float(np.vdot(overlap, off) / np.vdot(overlap, overlap))
        there = known.hamiltonian.values != 0.0
        aligned = found["hamiltonian"].with_values(found["hamiltonian"].values - shift * overlap)
        truth, guess = (
            levels_of(h, known.overlap, known.electrons, known.kpoints)
            for h in (known.hamiltonian, aligned)
        )
        filled = slice(truth.occupied)
        levels_off = np.abs(guess.energies - truth.energies)[filled].mean()
        diameter = np.sqrt(3) * BOND_A * n / np.pi
        print(
            f"({n:2d}, 0) {diameter:10.1f} {len(atoms):6d}"
            f" {1e3 * np.abs(off - shift * overlap)[there].mean():6.1f} {1e3 * levels_off:13.1f}"
            f" {1e3 * guess.gap:8.0f} {1e3 * truth.gap:5.0f}",
            flush=True,
        )

"""How well Hamiltonians and density matrices are learned from SIESTA runs, one folder each.

python examples/matrices_of_siesta.py RUNS --train 45

Each folder in RUNS has siesta.fdf, siesta.TSHS and siesta.TSDE (.xz or not); siesta.ORB_INDX lies
there or beside them. The last folders are the test.
"""

import argparse
import lzma
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.electrons.environment import Reach
from otf.electrons.matrix_model import Description, MatrixModel
from otf.orbitals import BlockMatrix
from otf_siesta import fdf, matrices, orbitals
from otf_siesta.geometry import read_structure

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("runs", type=Path)
parser.add_argument("--train", type=int, required=True)
parser.add_argument("--reach", type=float, default=8.0, help="of bonds, Angstrom")
parser.add_argument("--around", type=float, default=6.0, help="of the surroundings, Angstrom")
parser.add_argument("--radial", type=int, default=4, help="radial functions of the surroundings")
parser.add_argument("--budget", type=int, default=4, help="of features of bonds")
options = parser.parse_args()


def read(folder: Path) -> tuple[Atoms, dict[str, BlockMatrix]]:
    """Structure and matrices of a run."""
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        for source in (*options.runs.glob("siesta.ORB_INDX"), *folder.iterdir()):
            if source.suffix == ".xz":
                (here / source.stem).write_bytes(lzma.decompress(source.read_bytes()))
            else:
                shutil.copy(source, here / source.name)
        geometry = matrices.read_geometry(here, "siesta")
        hamiltonian = matrices.read_hamiltonian(here / "siesta.TSHS", geometry)
        densities = matrices.read_densities(here / "siesta.TSDE", geometry)
        found = {
            "hamiltonian": orbitals.to_blocks(hamiltonian),
            "overlap": orbitals.to_blocks(hamiltonian, hamiltonian.S_idx),
            "density": orbitals.to_blocks(densities.density),
            "energy density": orbitals.to_blocks(densities.energy_density),
        }
        return read_structure(fdf.read(here / "siesta.fdf")), found


data = [read(folder) for folder in sorted(options.runs.iterdir()) if folder.is_dir()]
shells = data[0][1]["hamiltonian"].shells
model = MatrixModel(
    shells,
    tuple(data[0][1]),
    Description(
        around=Reach(options.radial, 0.4, options.around),
        l_max=max(3, 2 * max(max(degrees) for degrees in shells.values())),
        bond=Reach(8, 0.4, options.reach),
        bond_budget=options.budget,
    ),
)
for atoms, known in data[: options.train]:
    model.learn(atoms, known)
began, errors = time.perf_counter(), {name: [] for name in model.names}
for atoms, known in data[options.train :]:
    found = model.predict(atoms, known["hamiltonian"].pairs)
    for name in model.names:
        errors[name].append(np.abs(found[name].values - known[name].values).mean())
tests = len(data) - options.train
each = (time.perf_counter() - began) / tests
print(f"{options.train} structures learned, {tests} tested, {each:.2f} s each")
units = {"hamiltonian": "eV", "overlap": "", "density": "electrons", "energy density": "eV"}
for name, unit in units.items():
    print(f"{name:14} mean absolute error {np.mean(errors[name]):.2e} {unit}")

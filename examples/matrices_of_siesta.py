"""Errors of Hamiltonians and density matrices learned from SIESTA runs, one folder each.

python examples/matrices_of_siesta.py RUNS --train 45 --siesta siesta
python examples/matrices_of_siesta.py RUNS --train 12 --test LARGER --siesta siesta

Each folder in RUNS has siesta.fdf, siesta.TSHS and siesta.TSDE (.xz or not); siesta.ORB_INDX is
there or in RUNS. The last folders are used as the test, or those in LARGER, of structures of other
sizes: then nearby atoms and low degrees are preferred as by `otf electrons learn`. With --siesta,
forces after one
diagonalisation of the learned Hamiltonian are compared with those of SIESTA; this needs no
pseudopotentials, as the .ion.xml files in RUNS contain all that is needed.
"""

import argparse
import lzma
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.electrons import bloch
from otf.electrons.density_matrix import of_hamiltonian, purified
from otf.electrons.environment import Reach
from otf.electrons.matrix_features import Description
from otf.electrons.matrix_model import MatrixModel
from otf.engines.labels import LabelFailure
from otf.engines.protocol import DensityGuess
from otf.orbitals.block_matrices import BlockMatrix
from otf.postprocess.electronic.learn import DECAY_A, FINER_IF_SHORT
from otf_siesta import fdf, guesses, matrices, orbitals
from otf_siesta.engine import SiestaEngine
from otf_siesta.geometry import read_structure
from otf_siesta.guesses import Occupation
from otf_siesta.options import Options

UNITS = {
    "hamiltonian": "eV",
    "overlap": "",
    "density": "electrons",
    "purified": "electrons",
    "energy density": "eV",
}
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("runs", type=Path)
parser.add_argument("--train", type=int, required=True)
parser.add_argument("--test", type=Path, help="folder of other runs to test")
parser.add_argument("--siesta", help="the SIESTA program, for forces")
parser.add_argument("--reach", type=float, default=8.0, help="reach of bonds, Angstrom")
parser.add_argument("--around", type=float, default=6.0, help="reach of the environments, Angstrom")
parser.add_argument("--radial", type=int, default=4, help="radial functions of the environments")
parser.add_argument("--budget", type=int, default=4, help="budget of bond features")
options = parser.parse_args()


def read(folder: Path) -> tuple[Atoms, dict[str, BlockMatrix]]:
    """Structure and matrices of a run."""
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        for source in (*folder.parent.glob("siesta.ORB_INDX"), *folder.iterdir()):
            if source.suffix == ".xz":
                (here / source.stem).write_bytes(lzma.decompress(source.read_bytes()))
            elif source.is_file():
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
        deck = fdf.read(here / "siesta.fdf")
        atoms = read_structure(deck)
        atoms.pbc = deck.block("kgrid_Monkhorst_Pack") is not None  # otherwise a molecule
        return atoms, found


def ion_file(xml: Path) -> str:
    """Orbitals and projectors as SIESTA reads them (User.Basis), from the .ion.xml it wrote."""
    whole = re.sub("<preamble>.*?</preamble>", "", xml.read_text(), flags=re.DOTALL)
    root = ElementTree.fromstring(whole)

    def values(element: ElementTree.Element, *names: str) -> str:
        found = (element.findtext(name) or element.attrib[name] for name in names)
        return " ".join(value.strip() for value in found)

    def table(element: ElementTree.Element) -> Iterator[str]:
        for function in element.iterfind("radfunc"):
            yield values(function, "npts", "delta", "cutoff")
            yield (function.findtext("data") or "").strip("\n")

    lines = ["<preamble>", "</preamble>"]
    lines += [f"{values(root, 'symbol'):2s}", f"{values(root, 'label'):20s}"]
    lines += [values(root, name) for name in ("z", "valence", "mass", "self_energy")]
    lines += [values(root, "lmax_basis", "norbs_nl"), values(root, "lmax_projs", "nprojs_nl")]
    lines.append("# PAOs:")
    for orbital in root.iterfind("paos/orbital"):
        lines += [values(orbital, "l", "n", "z", "ispol", "population"), *table(orbital)]
    lines.append("# KBs:")
    for projector in root.iterfind("kbs/projector"):
        lines += [values(projector, "l", "n", "ref_energy"), *table(projector)]
    for name in ("vna", "chlocal", "core"):
        function = root.find(name)
        if function is not None:
            lines += [f"# {name}:", *table(function)]
    return "\n".join(lines) + "\n"


def filled(
    hamiltonian: BlockMatrix, overlap: BlockMatrix, electrons: float, occupation: Occupation | None
) -> BlockMatrix:
    """Density matrix of a Hamiltonian."""
    if occupation is not None:
        how = occupation.kpoints, occupation.smearing_eV
        return bloch.density_of(hamiltonian, overlap, electrons, *how)
    whole = of_hamiltonian(hamiltonian.dense(), overlap.dense(), electrons)
    return BlockMatrix.of_dense(hamiltonian.numbers, hamiltonian.shells, whole)


def forces_off(
    tests: list[tuple[Atoms, BlockMatrix, BlockMatrix]], electrons: float
) -> list[tuple[Floats, Floats]]:
    """SIESTA's forces, and the errors of those of learned Hamiltonians, for each structure."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for xml in options.runs.glob("*.ion.xml"):
            (folder / xml.name.removesuffix(".xml")).write_text(ion_file(xml))
        template = folder / "siesta.fdf"
        shutil.copy(next((options.test or options.runs).glob("*/siesta.fdf")), template)
        given = {
            "command": options.siesta,
            "template": str(template),
            "connection": "process",
            "warm_start": "learned",
            "keywords": {"User.Basis": "T"},
        }
        engine = SiestaEngine(Options.model_validate(given), charge=0, spin=0)
        engine.open(tests[0][0], folder / "scratch")
        occupation = guesses.occupation_of(fdf.read(template), tests[0][0], 0)
        found = []
        for index, (atoms, hamiltonian, overlap) in enumerate(tests):
            exact = engine.label(atoms, index=index)
            guess = DensityGuess(filled(hamiltonian, overlap, electrons, occupation))
            answer = engine.check_forces(atoms, index=index + 1, guess=guess)
            if isinstance(exact, LabelFailure) or answer is None:
                raise SystemExit(f"no forces: {exact}")
            found.append((exact.forces, answer.forces - exact.forces))
        engine.close()
        return found


def read_all(runs: Path) -> list[tuple[Atoms, dict[str, BlockMatrix]]]:
    """Structures and matrices of all runs in a folder."""
    return [read(folder) for folder in sorted(runs.iterdir()) if folder.is_dir()]


data = read_all(options.runs)
known, unseen = data[: options.train], data[options.train :]
if options.test:
    unseen = read_all(options.test)
first = data[0][1]
shells = first["hamiltonian"].shells
model = MatrixModel(
    shells,
    tuple(first),
    Description(
        around=Reach(options.radial, 0.4, options.around, DECAY_A if options.test else None),
        l_max=max(3, 2 * max(max(degrees) for degrees in shells.values())),
        bond=Reach(8, 0.4, options.reach),
        bond_budget=options.budget,
        finer=FINER_IF_SHORT if options.test else Description().finer,
    ),
)
for atoms, learned in known:
    model.learn(atoms, learned)
began, tests = time.perf_counter(), []
errors: dict[str, list[float]] = {name: [] for name in UNITS}
for atoms, truth in unseen:
    found = model.predict(atoms, truth["hamiltonian"].pairs)
    tests.append((atoms, found["hamiltonian"], truth["overlap"]))
    if not atoms.pbc.any():
        pure = purified(found["density"].dense(), truth["overlap"].dense())
        errors["purified"].append(np.abs(pure - truth["density"].dense()).mean())
    for name in model.names:
        errors[name].append(np.abs(found[name].values - truth[name].values).mean())
each = (time.perf_counter() - began) / len(tests)
print(f"{len(known)} structures learned, {len(tests)} tested, {each:.2f} s each")
for name, unit in UNITS.items():
    if errors[name]:
        print(f"{name:14} mean absolute error {np.mean(errors[name]):.2e} {unit}")
if options.siesta:
    one = unseen[0][1]
    electrons = float(np.vdot(one["density"].values, one["overlap"].values))
    forces = forces_off(tests, electrons)
    size, error = (1e3 * np.mean([np.abs(pair[k]).mean() for pair in forces]) for k in (0, 1))
    print(f"forces, after one diagonalisation of the Hamiltonian: {error:.2f} of {size:.0f} meV/A")

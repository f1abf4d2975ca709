"""Densities learned point by point in small periodic cells, applied to larger ones.

python -m examples.densities_of_larger_cells aluminium --pseudo /usr/share/espresso/pseudo
python -m examples.densities_of_larger_cells water --pseudo FOLDER

In the root of the repository. Aluminium: 32 and 108 atoms at 300, 600 and 900 K, by Quantum
ESPRESSO (Al.pz-vbc.UPF). Water: 8, 16, 32 and 64 molecules at 330 K, by SIESTA (FOLDER has O.psf
and H.psf). All but the largest cells are learned. The structures are those of cheap dynamics:
effective-medium theory, flexible TIP3P. Densities are kept in a folder, so that a second call is
quick.
"""

import argparse
import subprocess
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.io.espresso import write_espresso_in
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.units import fs

from examples.validation.engines.flexible_water import FlexibleWater
from examples.validation.structures import cube, one_water, random_positions, relax
from otf.arrays import Floats
from otf.electrons.density.samples import relative_errors
from otf.io.volumes import read_density
from otf.orbitals.grids import Grid
from otf.postprocess.electronic.point_densities import learn_points

WATER_AMU, DENSITY_G_CM3, WATER_K = 18.015, 1.0, 330.0
MESH_RY, WAVES_RY = 100.0, 16.0
EVERY = 400  # steps between structures

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("system", choices=["aluminium", "water"])
parser.add_argument("--pseudo", type=Path, required=True, help="folder of pseudopotentials")
parser.add_argument("--pw", default="pw.x")
parser.add_argument("--pp", default="pp.x")
parser.add_argument("--siesta", default="siesta")
parser.add_argument("--train", type=int, default=8, help="structures of each kind to learn")
parser.add_argument("--test", type=int, default=1, help="structures of each kind to test")
parser.add_argument("--folder", type=Path, default=Path("densities"))
options = parser.parse_args()


def thermal(
    atoms: Atoms, calculator: Calculator, temperature_K: float, timestep_fs: float
) -> Iterator[Atoms]:
    """Structures of Langevin dynamics."""
    atoms.calc, rng = calculator, np.random.RandomState(len(atoms) + round(temperature_K))
    thermalize_momenta(atoms, temperature_K=temperature_K, rng=rng)
    dynamics = Langevin(
        atoms,
        timestep_fs * fs,
        temperature_K=temperature_K,
        friction=0.02 / fs,
        rng=rng,
        fixcm=False,
    )
    while True:
        dynamics.run(EVERY)
        yield Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def aluminium(count: int, temperature_K: float) -> Iterator[Atoms]:
    """A crystal of so many atoms."""
    cells = round((count / 4) ** (1 / 3))
    crystal = bulk("Al", a=4.05, cubic=True).repeat(cells)
    return thermal(crystal, EMT(), temperature_K, 2.0)


def water(count: int) -> Iterator[Atoms]:
    """Liquid water of so many molecules."""
    edge, rng = cube(count * WATER_AMU, DENSITY_G_CM3), np.random.default_rng(1)
    atoms = Atoms(cell=[edge] * 3, pbc=True)
    for centre in random_positions([8] * count, edge, 2.4, seed=1).positions:
        molecule = one_water()
        molecule.rotate(*rng.normal(size=(2, 3)))
        molecule.positions += centre - molecule.positions[0]
        atoms += molecule
    force_field = FlexibleWater(cutoff_A=min(4.9, 0.499 * edge))
    relax(atoms, force_field, steps=300)
    return thermal(atoms, force_field, WATER_K, 0.5)


def by_espresso(atoms: Atoms, folder: Path) -> Path:
    """Valence density by Quantum ESPRESSO, as a ``.cube`` file."""
    k = round(16.2 / atoms.cell.lengths()[0])
    common = {"outdir": ".", "prefix": "al", "pseudo_dir": str(options.pseudo.resolve())}
    smearing = {"occupations": "smearing", "smearing": "mp", "degauss": 0.02, "ecutwfc": WAVES_RY}
    with (folder / "pw.in").open("w") as file:
        write_espresso_in(
            file,
            atoms,
            input_data={"control": common, "system": smearing | {"nosym": True}},
            pseudopotentials={"Al": "Al.pz-vbc.UPF"},
            kpts=(k, k, k),
        )
    (folder / "pp.in").write_text(
        "&inputpp prefix='al', outdir='.', plot_num=0 /\n"
        "&plot iflag=3, output_format=6, fileout='density.cube' /\n"
    )
    for program, name in ((options.pw, "pw"), (options.pp, "pp")):
        with (folder / f"{name}.out").open("w") as file:
            words = [*program.split(), "-in", f"{name}.in"]
            subprocess.run(words, cwd=folder, stdout=file, check=True)
    return folder / "density.cube"


def by_siesta(atoms: Atoms, folder: Path) -> Path:
    """Valence density by SIESTA, as a ``.RHO`` file."""
    rows = [
        f"{x:.8f} {y:.8f} {z:.8f} {1 if symbol == 'O' else 2}"
        for (x, y, z), symbol in zip(atoms.positions, atoms.symbols, strict=True)
    ]
    edge = atoms.cell.lengths()[0]
    text = f"""\
SystemLabel water
NumberOfSpecies 2
NumberOfAtoms {len(atoms)}
%block ChemicalSpeciesLabel
1 8 O
2 1 H
%endblock ChemicalSpeciesLabel
LatticeConstant {edge:.8f} Ang
AtomicCoordinatesFormat Ang
%block AtomicCoordinatesAndAtomicSpecies
{chr(10).join(rows)}
%endblock AtomicCoordinatesAndAtomicSpecies
PAO.BasisSize DZ
XC.Functional GGA
XC.Authors PBE
MeshCutoff {MESH_RY} Ry
SaveRho T
"""
    (folder / "water.fdf").write_text(text)
    for symbol in ("O", "H"):
        link = folder / f"{symbol}.psf"
        link.unlink(missing_ok=True)
        link.symlink_to((options.pseudo / link.name).resolve())
    with (folder / "water.fdf").open() as given, (folder / "water.out").open("w") as file:
        subprocess.run(
            options.siesta.split(), cwd=folder, stdin=given, stdout=file, stderr=file, check=True
        )
    return folder / "water.RHO"


def densities(
    name: str,
    structures: Iterator[Atoms],
    count: int,
    compute: Callable[[Atoms, Path], Path],
    suffix: str,
) -> list[Path]:
    """Files of densities, computed where they are missing."""
    files = []
    for number, atoms in enumerate(islice(structures, count)):
        folder = options.folder / f"{name}-{number:02d}"
        known = list(folder.glob(f"*{suffix}"))
        if not known:
            folder.mkdir(parents=True, exist_ok=True)
            known = [compute(atoms, folder)]
            print(f"computed {known[0]}", flush=True)
        files += known
    return files


def periodic(path: Path) -> tuple[Atoms, Grid, Floats]:
    """Structure, grid and density of a file; those of cubes do not say that they are periodic."""
    atoms, grid, values = read_density(path)
    atoms.set_cell(grid.steps * np.array(grid.shape)[:, None])
    atoms.pbc = True
    return atoms, grid, values


kinds: dict[str, Iterator[Atoms]]
if options.system == "aluminium":
    kinds = {
        f"Al{count}-{kelvin}K": aluminium(count, kelvin)
        for count in (32, 108)
        for kelvin in (300, 600, 900)
    }
    large, compute, suffix = "Al108", by_espresso, ".cube"
else:
    kinds = {f"water{count}": water(count) for count in (8, 16, 32, 64)}
    large, compute, suffix = "water64", by_siesta, ".RHO"

known: list[Path] = []
tests: dict[str, list[Path]] = {}
for name, structures in kinds.items():
    learned = 0 if name.startswith(large) else options.train
    files = densities(name, structures, learned + options.test, compute, suffix)
    known += files[:learned]
    tests[name] = files[learned:]
largest = next(files[0] for name, files in tests.items() if name.startswith(large))
points = learn_points(options.folder, known, periodic(largest)[0])
print(points.in_words())
for name, files in tests.items():
    errors = []
    for path in files:
        atoms, grid, values = periodic(path)
        found = grid.sampled(points.model.density(atoms).at)
        errors.append(relative_errors(found, values, grid.volume))
    l1, l2 = 100.0 * np.mean(errors, axis=0)
    print(f"{name:12} {len(errors)} tested   L1 {l1:.2f} %   L2 {l2:.2f} %")

r"""Electron densities learned point by point, tested on other structures, or on larger ones.

python examples/densities_point_by_point.py --train ethane:100 --test ethane:5
python examples/densities_point_by_point.py --train water1:20 water2:20 water3:20 water4:30 \
    --test water4:3 water8:2 water12:1 --picture error.png
python examples/densities_point_by_point.py --train diamond:12 --test diamond:3

Structures are thermal, by GFN2-xTB (diamond, two atoms: random displacements of 0.05 A), densities
PBE by PySCF. Takes some minutes, mostly for labels.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import LBFGS
from matplotlib import pyplot as plt
from pyscf import dft, gto
from pyscf.pbc import dft as periodic_dft
from pyscf.pbc import gto as periodic_gto
from tblite.ase import TBLite

from otf.arrays import Floats
from otf.electrons.density.pointwise import DensityModel, describe_points
from otf.electrons.density.quadrature import quadrature
from otf.electrons.density.samples import relative_errors, sample_of_points
from otf.units import BOHR

mpl.use("Agg")
BASES = {"ethane": "C2H6", "butane": "trans-butane", "isobutane": "isobutane"}
CHUNK = 2500

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--train", nargs="+", required=True, help="such as water2:20")
parser.add_argument("--test", nargs="+", required=True)
parser.add_argument("--basis", default="def2-svp", help="basis of molecules")
parser.add_argument("--temperature", type=float, default=300.0, help="K")
parser.add_argument("--points", type=int, default=2500, help="points drawn from each density")
parser.add_argument("--picture", type=Path, help="plot density and error of the last test")
options = parser.parse_args()


@dataclass
class Known:
    """A density at points, in Angstrom."""

    atoms: Atoms
    points: Floats
    volumes: Floats
    values: Floats
    electrons: int


def start(name: str) -> Atoms:
    """A molecule, or a droplet of several water molecules."""
    if not name.startswith("water"):
        return molecule(BASES.get(name, name))
    rng, count = np.random.default_rng(3), int(name.removeprefix("water"))
    sites = np.array([(i, j, k) for i in range(-2, 3) for j in range(-2, 3) for k in range(-2, 3)])
    sites = sites[np.argsort((sites**2).sum(axis=1), kind="stable")][:count]
    drop = Atoms()
    for site in sites:
        one = molecule("H2O")
        one.euler_rotate(*rng.uniform(0, 180, 3))
        one.translate(2.9 * site - one.positions[0])
        drop += one
    return drop


def thermal(name: str, count: int, seed: int) -> Iterator[Atoms]:
    """Structures 25 fs apart."""
    rng = np.random.RandomState(seed)
    if name == "diamond":
        for _ in range(count):
            atoms = bulk("C", "diamond", a=3.567)
            atoms.rattle(0.05, rng=rng)
            yield atoms
        return
    atoms = start(name)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    LBFGS(atoms, logfile=None).run(steps=40)
    thermalize_momenta(atoms, temperature_K=options.temperature, rng=rng)
    dynamics = Langevin(
        atoms,
        0.5 * units.fs,
        temperature_K=options.temperature,
        friction=0.02 / units.fs,
        rng=rng,
        fixcm=False,
    )
    dynamics.run(600)
    for _ in range(count):
        dynamics.run(50)
        yield Atoms(atoms.numbers, atoms.positions)


def label(atoms: Atoms) -> Known:
    """Density by PySCF."""
    geometry = list(zip(atoms.symbols, atoms.positions, strict=True))
    if atoms.pbc.any():
        cell = periodic_gto.M(
            atom=geometry,
            a=atoms.cell.array,
            basis="gth-szv",
            pseudo="gth-pbe",
            ke_cutoff=50.0,
            verbose=0,
        )
        kpoints = cell.make_kpts([2, 2, 2])
        field = periodic_dft.KRKS(cell, kpoints, xc="pbe")
        field.kernel()
        points = cell.gen_uniform_grids(cell.mesh)
        volumes = np.full(len(points), atoms.get_volume() / len(points))
        waves = cell.pbc_eval_gto("GTOval", points, kpts=kpoints)
        values = np.mean(
            [
                np.einsum("pa,ab,pb->p", wave, matrix, wave.conj(), optimize=True).real
                for wave, matrix in zip(waves, field.make_rdm1(), strict=True)
            ],
            axis=0,
        )
    else:
        cell = gto.M(atom=geometry, basis=options.basis, verbose=0)
        field = dft.RKS(cell, xc="pbe").density_fit()
        field.grids.level = 1
        field.kernel()
        found, volumes = quadrature(atoms)
        points = found / BOHR
        orbitals = np.concatenate(
            [cell.eval_gto("GTOval", part) for part in np.array_split(points, 200)]
        )
        values = np.einsum("pa,ab,pb->p", orbitals, field.make_rdm1(), orbitals, optimize=True)
    return Known(atoms, points * BOHR, volumes, values / BOHR**3, cell.nelectron)


def named(given: str) -> tuple[str, int]:
    """A system, and its number of structures."""
    name, _, count = given.partition(":")
    return name, int(count)


def learned(model: DensityModel, atoms: Atoms, points: Floats) -> Floats:
    """Density of the model at arbitrary points."""
    density = model.density(atoms)
    parts = np.array_split(points, max(1, len(points) // CHUNK))
    return np.concatenate([density.at(part) for part in parts])


def draw(model: DensityModel, known: Known, path: Path) -> None:
    """Plot density and error in the plane closest to the atoms."""
    centre = known.atoms.positions.mean(axis=0)
    axes = np.linalg.svd(known.atoms.positions - centre)[2]
    half = np.abs((known.atoms.positions - centre) @ axes[:2].T).max() + 2.0
    ticks = np.linspace(-half, half, 160)
    x, y = np.meshgrid(ticks, ticks)
    points = centre + x.reshape(-1, 1) * axes[0] + y.reshape(-1, 1) * axes[1]
    geometry = list(zip(known.atoms.symbols, known.atoms.positions, strict=True))
    molecule_ = gto.M(atom=geometry, basis=options.basis, verbose=0)
    field = dft.RKS(molecule_, xc="pbe").density_fit()
    field.grids.level = 1
    field.kernel()
    orbitals = molecule_.eval_gto("GTOval", points / BOHR)
    truth = np.einsum("pa,ab,pb->p", orbitals, field.make_rdm1(), orbitals, optimize=True) / BOHR**3
    off = learned(model, known.atoms, points) - truth
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    shown = left.pcolormesh(x, y, np.log10(np.maximum(truth, 1e-4)).reshape(x.shape))
    figure.colorbar(shown, label="log10 of the density, e/Å³")
    most = np.quantile(np.abs(off), 0.995)
    shown = right.pcolormesh(x, y, off.reshape(x.shape), cmap="RdBu_r", vmin=-most, vmax=most)
    figure.colorbar(shown, label="error, e/Å³")
    for axis in (left, right):
        axis.set(xlabel="Å", aspect="equal")
    figure.savefig(path, dpi=120)


seconds = 0.0
elements = {int(z) for g in options.train for z in next(thermal(named(g)[0], 1, 0)).numbers}
count = sum(named(g)[1] for g in options.train)
model = DensityModel(sorted(elements), describe_points(len(elements), count))
for given in options.train:
    for atoms in thermal(*named(given), seed=1):
        known = label(atoms)
        began = time.perf_counter()
        sample = sample_of_points(
            atoms, known.points, known.volumes, known.values,
            reach=model.description.functions.cutoff, count=options.points,
            seed=model.n_labels, electrons=known.electrons,
        )  # fmt: skip
        model.learn(atoms, sample)
        seconds += time.perf_counter() - began
    print(f"learned {given}", flush=True)
print(f"{model.n_labels} densities learned in {seconds:.0f} s")
print("system     atoms   L1_%    L2_%   us_per_point_and_atom")
for given in options.test:
    errors, used = [], 0.0
    for atoms in thermal(*named(given), seed=2):
        known = label(atoms)
        began = time.perf_counter()
        found = learned(model, atoms, known.points)
        used += time.perf_counter() - began
        errors.append(relative_errors(found, known.values, known.volumes))
    l1, l2 = 100 * np.mean(errors, axis=0)
    each = 1e6 * used / (len(errors) * len(known.points) * len(atoms))
    print(f"{named(given)[0]:10s} {len(atoms):5d} {l1:6.3f} {l2:7.3f} {each:10.2f}", flush=True)
if options.picture is not None:
    draw(model, known, options.picture)

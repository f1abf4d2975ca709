"""Answers of the engine in relaxations: alone, and with a calculator that learns."""

from tempfile import TemporaryDirectory

from ase import Atoms
from ase.build import add_adsorbate, fcc100, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from tblite.ase import TBLite

import otf
from otf.postprocess.optimise import relax

NAMES = (
    "H2O", "CH3OH", "CH3CH2OH", "C6H6", "CH3COOH", "isobutane", "C3H8", "CH3CHO", "C5H5N", "HCOOH",
)  # fmt: skip
FMAX_EV_A = 0.02


def slab() -> Atoms:
    """Gold on Al(100), whose lowest two layers are fixed."""
    atoms = fcc100("Al", size=(3, 3, 4))
    add_adsorbate(atoms, "Au", 1.7, "hollow")
    atoms.center(axis=2, vacuum=6.0)
    atoms.set_constraint(FixAtoms(mask=[atom.tag > 2 for atom in atoms]))
    return atoms


def compare(start: Atoms, engine: Calculator) -> tuple[int, int, float]:
    """Answers alone and learning, and the difference of the minima, meV."""
    start.rattle(0.1, seed=3)
    alone = start.copy()
    alone.calc = engine
    optimiser = BFGS(alone, logfile=None)
    optimiser.run(fmax=FMAX_EV_A)
    minimum = alone.get_potential_energy()
    with TemporaryDirectory() as folder, otf.LearningCalculator(engine, folder) as calculator:
        *_, end = relax(start, calculator, fmax_eV_A=FMAX_EV_A, steps=500)
    return optimiser.nsteps + 1, end.labels, 1000.0 * (end.energy_eV - minimum)


def main() -> None:
    """Print the table."""
    print("| | alone | learning | difference of the minima, meV |\n|---|---|---|---|")
    alone_in_all = labels_in_all = 0
    for name in NAMES:
        engine = TBLite(method="GFN2-xTB", verbosity=0)
        alone, labels, difference = compare(molecule(name), engine)
        print(f"| {name} | {alone} | {labels} | {difference:.2f} |", flush=True)
        alone_in_all, labels_in_all = alone_in_all + alone, labels_in_all + labels
    print(f"| all | {alone_in_all} | {labels_in_all} | |")
    alone, labels, difference = compare(slab(), EMT())
    print(f"| Au on Al(100) | {alone} | {labels} | {difference:.2f} |")


if __name__ == "__main__":
    main()

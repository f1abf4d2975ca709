"""Answers of the engine in relaxations by GFN2-xTB: alone, and with a calculator that learns."""

from tempfile import TemporaryDirectory

from ase.build import molecule
from ase.optimize import BFGS
from tblite.ase import TBLite

import otf
from otf.postprocess.optimise import relax

NAMES = (
    "H2O", "CH3OH", "CH3CH2OH", "C6H6", "CH3COOH", "isobutane", "C3H8", "CH3CHO", "C5H5N", "HCOOH",
)  # fmt: skip
FMAX_EV_A = 0.02

alone_in_all = labels_in_all = 0
print("| molecule | alone | learning | difference of the minima, meV |\n|---|---|---|---|")
for name in NAMES:
    start = molecule(name)
    start.rattle(0.1, seed=3)
    alone = start.copy()
    alone.calc = TBLite(method="GFN2-xTB", verbosity=0)
    optimiser = BFGS(alone, logfile=None)
    optimiser.run(fmax=FMAX_EV_A)
    with TemporaryDirectory() as folder, otf.LearningCalculator("tblite", folder) as calculator:
        *_, end = relax(start, calculator, fmax_eV_A=FMAX_EV_A, steps=500)
    answers = optimiser.nsteps + 1
    difference = 1000 * (end.energy_eV - alone.get_potential_energy())
    print(f"| {name} | {answers} | {end.labels} | {difference:.2f} |", flush=True)
    alone_in_all, labels_in_all = alone_in_all + answers, labels_in_all + end.labels
print(f"| all | {alone_in_all} | {labels_in_all} | |")

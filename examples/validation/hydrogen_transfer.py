"""Answers of GFN2-xTB for the hydrogen transfer in malonaldehyde: alone, and while learning."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.mep import NEB
from ase.optimize import BFGS
from tblite.ase import TBLite

import otf
from otf.postprocess.optimise import find_path, relax

FMAX_EV_A, IMAGES, STARTS = 0.05, 5, 8
TARGET_MEV_A = 250.0  # as `otf neb`
MIRRORED = [4, 3, 2, 1, 0, 5, 8, 7, 6]  # the other oxygen has the hydrogen


class Counted(TBLite):  # type: ignore[misc]  # tblite is not typed
    """GFN2-xTB that counts its answers."""

    answers = 0

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        """Fill ``results``; called by ASE."""
        Counted.answers += 1
        super().calculate(*args, **kwargs)


def ends(seed: int) -> list[Atoms]:
    """Both minima, displaced."""
    read = ase.io.read(Path(__file__).with_name("malonaldehyde.extxyz"))
    first = Atoms(read.numbers, read.positions)
    last = first.copy()
    last.positions = first.positions[MIRRORED] * [-1.0, 1.0, 1.0]
    minimize_rotation_and_translation(first, last)
    rng = np.random.default_rng(seed)
    for atoms in (first, last):
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
    return [first, last]


def alone(seed: int) -> tuple[int, float]:
    """Answers, and the barrier in meV, by the engine alone."""
    Counted.answers = 0
    first, last = ends(seed)
    for atoms in (first, last):
        atoms.calc = Counted(method="GFN2-xTB", verbosity=0)
        BFGS(atoms, logfile=None).run(fmax=FMAX_EV_A)
    band = [*(first.copy() for _ in range(IMAGES + 1)), last.copy()]
    for image in band:
        image.calc = Counted(method="GFN2-xTB", verbosity=0)
    elastic = NEB(band, climb=True, method="improvedtangent")
    elastic.interpolate(method="idpp")
    BFGS(elastic, logfile=None).run(fmax=FMAX_EV_A, steps=500)
    energies = [float(image.get_potential_energy()) for image in band]
    return Counted.answers, 1000.0 * (max(energies) - energies[0])


def learning(seed: int) -> tuple[int, float]:
    """The same with a calculator that learns."""
    with (
        TemporaryDirectory() as folder,
        otf.LearningCalculator("tblite", folder, force_target_meV_A=TARGET_MEV_A) as calculator,
    ):
        first, last = ends(seed)
        for atoms in (first, last):
            for _ in relax(atoms, calculator, fmax_eV_A=FMAX_EV_A, steps=500):
                pass
        path = find_path(first, last, calculator, images=IMAGES, fmax_eV_A=FMAX_EV_A, steps=500)
        return calculator.n_labels, 1000.0 * path.barrier_eV


print("| start | alone | learning | barriers, meV |\n|---|---|---|---|")
totals = np.zeros(2)
for seed in range(STARTS):
    found = alone(seed), learning(seed)
    totals += [answers for answers, _ in found]
    barriers = " and ".join(f"{barrier:.1f}" for _, barrier in found)
    print(f"| {seed} | {found[0][0]} | {found[1][0]} | {barriers} |", flush=True)
print("| mean | {:.1f} | {:.1f} | |".format(*totals / STARTS))

"""Minima and paths between them by ASE's optimisers, on a calculator that learns.

The model is followed until it has converged; then the engine labels the structure that was reached,
which is learned. This is repeated until the engine agrees.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.mep import NEB
from ase.optimize import BFGS

from otf.analysis.blocks import Estimate
from otf.analysis.curves import Curves
from otf.arrays import Floats
from otf.errors import RunError
from otf.runs.learning_calculator import LearningCalculator

_ROUNDS = 20
_SAME_EV = 0.002  # energies of the highest image that agree


@dataclass(frozen=True)
class Step:
    """A step of an optimisation.

    Attributes
    ----------
    energy_eV
        Energy, or the highest one of a path above its start.
    force_eV_A
        Largest force on an atom.
    labels
        Answers of the engine so far.
    by_engine
        Whether the energy is the engine's own.
    """

    energy_eV: float
    force_eV_A: float
    labels: int
    by_engine: bool = False


def relax(
    atoms: Atoms,
    calculator: LearningCalculator,
    *,
    fmax_eV_A: float,
    steps: int,
    cell: bool = False,
) -> Iterator[Step]:
    """Relax a structure in place, step by step; the last step is the engine's.

    Parameters
    ----------
    fmax_eV_A
        Largest force on an atom at the end, by the engine.
    steps
        Number of steps at most.
    cell
        Whether the cell is relaxed, too.

    Raises
    ------
    RunError
        If it has not converged within the steps.
    """
    atoms.calc = calculator
    target = FrechetCellFilter(atoms) if cell else atoms
    left = steps
    for _ in range(_ROUNDS):
        before = calculator.n_labels
        optimiser = BFGS(target, logfile=None)
        for _ in optimiser.irun(fmax=fmax_eV_A, steps=left):
            asked, before = calculator.n_labels > before, calculator.n_labels
            energy = float(atoms.get_potential_energy())
            yield Step(energy, _largest(target.get_forces()), calculator.n_labels, asked)
        left -= optimiser.nsteps
        label = calculator.by_engine(atoms)
        calculator.reset()  # it answers with this label now
        force = _largest(target.get_forces())
        yield Step(label.energy, force, calculator.n_labels, by_engine=True)
        if force <= fmax_eV_A:
            return
        if left <= 0:
            break
    raise RunError(
        f"not converged: the largest force is {force:.3f} eV/A after {steps - left} steps; allow "
        "more steps (--steps), or a larger force (--fmax)"
    )


@dataclass(frozen=True, eq=False)
class Path:
    """A path between two minima.

    Attributes
    ----------
    images
        Its structures, with their energies and forces.
    barrier_eV
        Energy of the highest image above the first one, by the engine.
    """

    images: Sequence[Atoms]
    barrier_eV: float

    def curves(self) -> Curves:
        """Energies of the images above the first one."""
        energies = [float(image.get_potential_energy()) for image in self.images]
        return _curves("energy along the path", "image", np.array(energies) - energies[0])


def find_path(
    first: Atoms,
    last: Atoms,
    calculator: LearningCalculator,
    *,
    images: int,
    fmax_eV_A: float,
    steps: int,
) -> Path:
    """The path of least energy between two minima, by a climbing nudged elastic band.

    Parameters
    ----------
    images
        Structures between the minima.
    fmax_eV_A
        Largest force across the path at the end, by the model.
    steps
        Number of steps at most.

    Raises
    ------
    RunError
        If it has not converged within the steps.
    """
    band = [first.copy(), *(first.copy() for _ in range(images)), last.copy()]
    for image in band:
        image.calc = calculator
    elastic = NEB(band, climb=True, allow_shared_calculator=True, method="improvedtangent")
    elastic.interpolate(method="idpp", mic=bool(first.pbc.any()))
    left = steps
    for _ in range(_ROUNDS):
        optimiser = BFGS(elastic, logfile=None)
        converged = optimiser.run(fmax=fmax_eV_A, steps=max(1, left))
        left -= optimiser.nsteps
        energies = [float(image.get_potential_energy()) for image in band]
        top = int(np.argmax(energies))
        start = calculator.by_engine(band[0]).energy
        barrier = calculator.by_engine(band[top]).energy - start
        if converged and abs(barrier - (energies[top] - energies[0])) < _SAME_EV:
            return Path([_as_found(image) for image in band], barrier)
        if left <= 0:
            break
    raise RunError(
        f"not converged after {steps - left} steps; allow more steps (--steps), or a larger force "
        "(--fmax)"
    )


def _as_found(image: Atoms) -> Atoms:
    """A copy with its energy and forces, which needs no calculator."""
    found = image.copy()
    results = {"energy": image.get_potential_energy(), "forces": image.get_forces()}
    found.calc = SinglePointCalculator(found, **results)
    return found


def progress_curves(course: Sequence[Step]) -> Curves:
    """Energies of a relaxation by step, above the last one."""
    energies = np.array([step.energy_eV for step in course])
    return _curves("energy of the relaxation", "step", energies - energies[-1])


def _curves(title: str, x_name: str, energies: Floats) -> Curves:
    known = Estimate(energies, np.zeros_like(energies))
    return Curves(title, x_name, np.arange(len(energies), dtype=float), {"energy_eV": known}, {})


def _largest(forces: Floats) -> float:
    return float(np.sqrt((forces**2).sum(axis=1)).max())

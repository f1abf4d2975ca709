"""Fit to recorded structures by accumulated normal equations, in bounded memory."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.engines.labels import Labels
from otf.errors import FileError
from otf.learning.force_model import ForceModel
from otf.learning.trainer import Trainer


def recorded_labels(atoms: Atoms, where: str) -> Labels:
    """Energy and forces (and stress) stored with a structure, as ase.io reads them.

    Raises
    ------
    FileError
        If they are missing or not finite.
    """
    results = {} if atoms.calc is None else atoms.calc.results
    energy = results.get("free_energy", results.get("energy"))
    forces = results.get("forces")
    if energy is None or forces is None:
        missing = "energy" if energy is None else "forces"
        raise FileError(f"{where}: has no {missing}; every frame needs 'energy' and 'forces'")
    stress = atoms.get_stress(voigt=False) if "stress" in results and atoms.pbc.all() else None
    labels = Labels(float(energy), np.asarray(forces, dtype=float), stress)
    problem = labels.problem(len(atoms))
    if problem is not None:
        raise FileError(f"{where}: {problem}")
    return labels


@dataclass(frozen=True)
class Errors:
    """Errors of a model over structures.

    Attributes
    ----------
    force_mae, force_rmse
        Of force components, eV/Angstrom.
    energy_mae, energy_rmse
        eV/atom.
    """

    frames: int
    force_mae: float
    force_rmse: float
    energy_mae: float
    energy_rmse: float


def errors_of(model: ForceModel, data: Iterable[tuple[Atoms, Labels]]) -> Errors:
    """Errors of a model on labelled structures."""
    forces, energies = [], []
    for atoms, labels in data:
        prediction = model.predict(atoms)
        forces.append((prediction.forces - labels.forces).ravel())
        energies.append((prediction.energy - labels.energy) / len(atoms))
    force, energy = np.concatenate(forces), np.array(energies)
    return Errors(
        len(energies),
        float(np.abs(force).mean()),
        float(np.sqrt(np.mean(force**2))),
        float(np.abs(energy).mean()),
        float(np.sqrt(np.mean(energy**2))),
    )


def learn_all(trainer: Trainer, data: Iterable[tuple[Atoms, Labels]]) -> None:
    """Learn all structures as independent, and choose the hyperparameters once at the end.

    Rows are accumulated structure by structure: memory holds the structures, the normal equations
    and the rows of the structures kept for leaving out, not all rows.
    """
    for i, (atoms, labels) in enumerate(data):
        trainer.add(atoms, labels, time_fs=1e6 * i)
    trainer.settle()

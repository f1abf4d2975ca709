"""Fit to recorded structures by accumulated normal equations, in bounded memory."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.engines.labels import Labels
from otf.errors import FileError
from otf.learning.force_model import ForceModel
from otf.learning.trainer import Trainer


@dataclass(frozen=True)
class Keys:
    """Names of the energy and the forces in extended XYZ files that use names of their own."""

    energy: str
    forces: str


def recorded_labels(atoms: Atoms, where: str, keys: Keys | None = None) -> Labels:
    """Energy and forces (and stress) stored with a structure, as ase.io reads them.

    Parameters
    ----------
    keys
        Names of energy and forces; by default those of ASE, or else the same with a prefix that
        names their origin, such as REF_energy and REF_forces.

    Raises
    ------
    FileError
        If they are missing or not finite.
    """
    results = {} if atoms.calc is None else atoms.calc.results
    energy = results.get("free_energy", results.get("energy"))
    forces = results.get("forces")
    keys = keys or (_prefixed(atoms) if energy is None or forces is None else None)
    if keys is not None:
        energy, forces = atoms.info.get(keys.energy), atoms.arrays.get(keys.forces)
    if energy is None or forces is None:
        missing = "energy" if energy is None else "forces"
        names = sorted([*atoms.info, *atoms.arrays.keys() - {"numbers", "positions"}])
        raise FileError(
            f"{where}: has no {(keys and getattr(keys, missing)) or missing}; every frame needs "
            f"energy and forces, by other names with --keys ENERGY,FORCES (it has: "
            f"{', '.join(names) or 'nothing else'})"
        )
    stress = atoms.get_stress(voigt=False) if "stress" in results and atoms.pbc.all() else None
    level = float(atoms.info.get("level_eV", 0.0))
    labels = Labels(float(energy), np.asarray(forces, dtype=float), stress, level=level)
    problem = labels.problem(len(atoms))
    if problem is not None:
        raise FileError(f"{where}: {problem}")
    return labels


def _prefixed(atoms: Atoms) -> Keys | None:
    """Names with a prefix, if both the energy and the forces have the same one."""
    for name in atoms.info:
        prefix = name.removesuffix("energy")
        for forces in (f"{prefix}forces", f"{prefix}force"):
            if name.endswith("_energy") and forces in atoms.arrays:
                return Keys(name, forces)
    return None


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

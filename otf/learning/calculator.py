"""A learned model as an ASE calculator."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from otf.arrays import Floats
from otf.learning.force_model import ForceModel
from otf.learning.model_file import read_model


class ModelCalculator(Calculator):  # type: ignore[misc]  # ase is not typed
    """Energy, forces, stress and atomic energies by a learned model.

    Parameters
    ----------
    model
        The learned force model.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy", "free_energy", "energies", "forces", "stress",
    ]  # fmt: skip

    def __init__(self, model: ForceModel) -> None:
        super().__init__()
        self.model = model

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the model from a file."""
        return cls(read_model(path))

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``; called by ASE.

        Raises
        ------
        CalculatorSetupError
            If the structure has a species that is not in the model.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        try:
            prediction = self.model.predict(self.atoms)
        except ValueError as error:
            raise CalculatorSetupError(str(error)) from error
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "energies": prediction.atomic_energies,
            "forces": prediction.forces,
        }
        if prediction.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress)

    def predicted_error(self, atoms: Atoms) -> Floats:
        """Expected error of each force component (N, 3), eV/Angstrom."""
        return self.model.predicted_error(atoms)

    def atomic_error(self, atoms: Atoms) -> Floats:
        """Expected force error of each atom (N,), RMS over its components, eV/Angstrom."""
        return np.asarray(np.sqrt(np.mean(self.predicted_error(atoms) ** 2, axis=1)))


def learned(path: str) -> ModelCalculator:
    """A learned model as a calculator, for configurations that name it, as a baseline does.

    Parameters
    ----------
    path
        A run directory, its ``model.h5``, or what ``otf fit`` wrote.

    Raises
    ------
    FileError
        If it is not a model file.
    """
    file = Path(path)
    return ModelCalculator.read(file / "model.h5" if file.is_dir() else file)

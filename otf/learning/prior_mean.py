"""A fitted model of a cheap engine as a term of a baseline.

The model that corrects it then starts from the cheap engine's energy as its prior mean, at the cost
of a second model instead of that of the engine at every step (Kennedy and O'Hagan, Biometrika 87, 1
(2000), with a coefficient of 1; the strength of the prior around the mean is chosen by left-out
labels, as that of any model).
"""

from dataclasses import dataclass

from ase import Atoms

from otf.engines.labels import Labels
from otf.errors import EngineError
from otf.learning.force_model import ForceModel


@dataclass(frozen=True, eq=False)
class ModelTerm:
    """A model of an engine.

    Attributes
    ----------
    of
        Kind of the engine.
    model
        The model, without a baseline of its own.
    """

    of: str
    model: ForceModel

    @property
    def name(self) -> str:
        """The engine, and that it is not evaluated itself."""
        return f"{self.of} as prior mean"

    def label(self, atoms: Atoms) -> Labels:
        """Energy, forces and stress of a structure.

        Raises
        ------
        EngineError
            If the structure has a species that the model has not.
        """
        try:
            found = self.model.predict(atoms)
        except ValueError as error:
            raise EngineError(f"model.baseline, {self.name}: {error}") from error
        return Labels(found.energy, found.forces, found.stress, found.atomic_energies)

    def close(self) -> None:
        """Do nothing."""

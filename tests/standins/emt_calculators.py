"""EMT of ASE's, with two properties of other calculators."""

from ase import Atoms
from ase.calculators.emt import EMT


class Forgetful(EMT):
    """Builds its neighbour list anew at each call.

    EMT keeps it with a skin, and sums in its order: its last digits depend on earlier calls.
    """

    def calculate(self, atoms: Atoms, *args: object, **kwargs: object) -> None:
        self.initialize(atoms)
        super().calculate(atoms, *args, **kwargs)


class Stressless(EMT):
    """Has energy and forces only."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, *args: object, **kwargs: object) -> None:
        super().calculate(*args, **kwargs)
        self.results.pop("stress", None)

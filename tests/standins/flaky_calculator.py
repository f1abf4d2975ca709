"""An ASE calculator that fails on demand, for use in a configuration."""

from typing import ClassVar

from ase.calculators.calculator import CalculationFailed, FileIOCalculator, SCFError
from ase.calculators.morse import MorsePotential


class Flaky(MorsePotential):
    """Morse potential whose calls from ``first`` to ``last`` fail.

    They are counted from 0 after the one by which the noise of the labels is measured.
    """

    def __init__(self, first: int, last: int, how: str = "error", **keywords: float) -> None:
        super().__init__(**keywords)
        self.first, self.last, self.how = first, last, how
        self.calls = -1
        self.length = 0.0

    def calculate(self, *arguments, **keywords):
        call, self.calls = self.calls, self.calls + 1
        if self.first <= call <= self.last:
            if self.how == "error":
                raise SCFError("not converged in 100 cycles")
            if self.how == "crash":
                raise CalculationFailed("killed by signal 9")
        super().calculate(*arguments, **keywords)
        if self.first <= call <= self.last and self.how == "nan":
            self.results["forces"] = self.results["forces"] * float("nan")
        if self.first <= call <= self.last and self.how == "pushed":  # net force on every atom
            self.results["forces"] = self.results["forces"] + [0.2, 0.0, 0.0]
        if self.first <= call <= self.last and self.how == "spiky":  # forces on two atoms
            self.results["forces"][0, 0] += 15.0
            self.results["forces"][1, 0] -= 15.0
        if self.first <= call <= self.last and self.how == "stiffer":  # another, true potential
            self._pull(strength=3.0, shortening=0.15)
        if self.first <= call <= self.last and self.how in ("elsewhere", "astray"):
            # another self-consistent state: the same at each call, or a different one
            for name in ("energy", "free_energy"):
                self.results[name] += 50.0 * (1 if self.how == "elsewhere" else 1 + call)

    def _pull(self, *, strength: float, shortening: float) -> None:
        """Add a spring between the first two atoms, stretched when it is first added."""
        bond = self.atoms.positions[1] - self.atoms.positions[0]
        distance = float((bond**2).sum() ** 0.5)
        length = self.length = self.length or distance - shortening
        pull = strength * (distance - length) * bond / distance
        for name in ("energy", "free_energy"):
            self.results[name] += 0.5 * strength * (distance - length) ** 2
        self.results["forces"][0] += pull
        self.results["forces"][1] -= pull


class Broken(FileIOCalculator):
    """A calculator whose program writes why it fails, and fails."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, **keywords: float) -> None:
        command = "sh -c 'echo the grid is too coarse > job.out; exit 2'"
        super().__init__(command=command, **keywords)

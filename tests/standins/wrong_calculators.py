"""ASE calculators that give wrong results, for use in a configuration."""

import copy

from ase.calculators.emt import EMT


class Right(EMT):
    """The results of EMT."""


class Flip(EMT):
    """The gradient in place of the forces."""

    def calculate(self, *arguments, **keywords):
        super().calculate(*arguments, **keywords)
        self.results["forces"] = -self.results["forces"]


class Sign(EMT):
    """The opposite sign of the stress."""

    def calculate(self, *arguments, **keywords):
        super().calculate(*arguments, **keywords)
        self.results["stress"] = -self.results["stress"]


class Stale(EMT):
    """The results of the first structure for all others."""

    first: dict | None = None

    def calculate(self, *arguments, **keywords):
        super().calculate(*arguments, **keywords)
        self.first = self.first or copy.deepcopy(self.results)
        self.results = copy.deepcopy(self.first)

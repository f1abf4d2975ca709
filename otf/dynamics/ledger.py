"""The accounts of a run's energy: what is conserved, and where the rest went.

H̃ = K + V − J − Q − W − B stays constant to the integrator's error, whatever is learned on the way:

===  ==========================================================================================
K    kinetic energy
V    potential that moves the atoms: the model's, or the engine's where it moves them
J    sum of the jumps of V where it changes hands: a model that has learned, a switch
Q    heat from the thermostat
W    work of forces that have no potential (the autoregressive residual)
B    work of the barostat on the atoms, at the cost of P·volume, of the cell's kinetic energy and
     of its own thermostat
===  ==========================================================================================
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Ledger:
    """Accounts up to the present step, eV.

    Attributes
    ----------
    potential
        V; None before anything was computed.
    energy_discontinuity, heat, work, barostat
        J, Q, W and B, summed from the start of the run.
    """

    potential: float | None = None
    energy_discontinuity: float = 0.0
    heat: float = 0.0
    work: float = 0.0
    barostat: float = 0.0

    def switched(self, potential: float) -> "Ledger":
        """Another potential takes over at the same positions.

        >>> Ledger(potential=-10.0).switched(-9.5).energy_discontinuity
        0.5
        """
        jump = 0.0 if self.potential is None else potential - self.potential
        return replace(
            self, potential=potential, energy_discontinuity=self.energy_discontinuity + jump
        )

    def moved(
        self, potential: float, *, heat: float, work: float = 0.0, barostat: float = 0.0
    ) -> "Ledger":
        """A step was made on the present potential."""
        return Ledger(
            potential,
            self.energy_discontinuity,
            self.heat + heat,
            self.work + work,
            self.barostat + barostat,
        )

    @property
    def given(self) -> float:
        """Energy from thermostat and barostat, eV."""
        return self.heat + self.barostat

    def conserved(self, kinetic: float) -> float:
        """H̃, eV.

        >>> Ledger(potential=-10.0, energy_discontinuity=1.0, heat=0.25).conserved(2.0)
        -9.25
        """
        if self.potential is None:
            return float("nan")
        return kinetic + self.potential - self.energy_discontinuity - self.given - self.work

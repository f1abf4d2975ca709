"""Energy account of a run: the conserved energy and its contributions.

H̃ = K + V − J − Q − W − B − U is conserved up to the integrator's error, also when the model is
updated:

===  ==========================================================================================
K    kinetic energy
V    potential energy of the model, or of the engine where it drives the dynamics
J    sum of the energy discontinuities of V at model updates and changes of potential
Q    heat from the thermostat
W    work of non-conservative forces (the autoregressive residual)
B    work of the barostat on the atoms, taken from P·volume, from the kinetic energy of the cell
     and from its thermostat
U    work of the bias on the atoms
===  ==========================================================================================
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Ledger:
    """Energy account up to the current step, eV.

    Attributes
    ----------
    potential
        V; None before the first evaluation.
    energy_discontinuity, heat, work, barostat, bias
        J, Q, W, B and U, accumulated since the start of the run.
    """

    potential: float | None = None
    energy_discontinuity: float = 0.0
    heat: float = 0.0
    work: float = 0.0
    barostat: float = 0.0
    bias: float = 0.0

    def switched(self, potential: float) -> "Ledger":
        """Account after a change of the potential at fixed positions.

        >>> Ledger(potential=-10.0).switched(-9.5).energy_discontinuity
        0.5
        """
        step = 0.0 if self.potential is None else potential - self.potential
        return replace(
            self, potential=potential, energy_discontinuity=self.energy_discontinuity + step
        )

    def moved(
        self,
        potential: float,
        *,
        heat: float,
        work: float = 0.0,
        barostat: float = 0.0,
        bias: float = 0.0,
    ) -> "Ledger":
        """Account after a step on the current potential."""
        return Ledger(
            potential,
            self.energy_discontinuity,
            self.heat + heat,
            self.work + work,
            self.barostat + barostat,
            self.bias + bias,
        )

    @property
    def given(self) -> float:
        """Energy supplied by thermostat, barostat and bias, eV."""
        return self.heat + self.barostat + self.bias

    def conserved(self, kinetic: float) -> float:
        """Conserved energy H̃, eV.

        >>> Ledger(potential=-10.0, energy_discontinuity=1.0, heat=0.25).conserved(2.0)
        -9.25
        """
        if self.potential is None:
            return float("nan")
        return kinetic + self.potential - self.energy_discontinuity - self.given - self.work

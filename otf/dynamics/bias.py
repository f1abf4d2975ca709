r"""Biases: potentials of collective variables, added to the forces that move the atoms.

=====================================================================  ========================
:math:`U = \frac{k}{2} (s - s_0)^2`                                    :class:`Restraint`
:math:`U = \frac{k}{2} (s - s_w)^2` beyond a wall, else 0              :class:`Walls`
:math:`U = \sum_h w_h \prod_d \exp(-(s_d - s_{h,d})^2 / 2\sigma_d^2)`  :class:`Metadynamics`
:math:`w_h = w_0 \exp(-U(s_h) / k_B \Delta T)`,                        :meth:`Metadynamics.hill`
:math:`\Delta T = (\gamma - 1) T`
=====================================================================  ========================

Metadynamics: Laio and Parrinello, PNAS 99, 12562 (2002); well-tempered: Barducci, Bussi and
Parrinello, Phys. Rev. Lett. 100, 020603 (2008). The model and the labels have no part of a bias.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.dynamics.collective_variables import CollectiveVariable
from otf.dynamics.integrators import Acting
from otf.units import KELVIN


class Potential(ABC):
    """A potential of one or more collective variables."""

    variables: tuple[CollectiveVariable, ...]

    @abstractmethod
    def at(self, values: Floats, hills: Floats) -> tuple[float, Floats]:
        """Energy, eV, and its derivatives by the values (d,) of the variables.

        Parameters
        ----------
        values
            (d,), Angstrom or radians.
        hills
            (hills, d + 1) centres and heights of the hills so far; of :class:`Metadynamics` only.
        """


@dataclass(frozen=True)
class Restraint(Potential):
    """A harmonic potential around a value.

    Attributes
    ----------
    centre, constant
        s_0 and k; Angstrom or radians, eV.
    """

    variables: tuple[CollectiveVariable, ...]
    centre: float
    constant: float

    def at(self, values: Floats, hills: Floats) -> tuple[float, Floats]:
        """See :class:`Potential`."""
        away = self.variables[0].difference(values, self.centre)
        return 0.5 * self.constant * float(away @ away), self.constant * away


@dataclass(frozen=True)
class Walls(Potential):
    """Harmonic walls that keep a variable between two values.

    Attributes
    ----------
    low, high, constant
        Positions of the walls, infinite where there is none, and k; Angstrom or radians, eV. A
        torsion has both: it is kept in a part of the circle, and pushed to the nearer end.
    """

    variables: tuple[CollectiveVariable, ...]
    low: float
    high: float
    constant: float

    def at(self, values: Floats, hills: Floats) -> tuple[float, Floats]:
        """See :class:`Potential`."""
        variable = self.variables[0]
        if variable.kind == "torsion":
            away = variable.difference(values, 0.5 * (self.low + self.high))
            half = 0.5 * (self.high - self.low)
            beyond = away - np.clip(away, -half, half)
        else:
            beyond = values - np.clip(values, self.low, self.high)
        return 0.5 * self.constant * float(beyond @ beyond), self.constant * beyond


@dataclass(frozen=True)
class Metadynamics(Potential):
    """Hills that fill the wells of the free energy as the trajectory visits them.

    Attributes
    ----------
    widths
        (d,) sigma, Angstrom or radians.
    height
        w_0, eV.
    every
        Steps between hills.
    tempering_K
        Delta T; infinite for hills of one height.
    """

    variables: tuple[CollectiveVariable, ...]
    widths: tuple[float, ...]
    height: float
    every: int
    tempering_K: float

    def at(self, values: Floats, hills: Floats) -> tuple[float, Floats]:
        """See :class:`Potential`."""
        scaled = np.empty((len(hills), len(values)))
        for d, variable in enumerate(self.variables):
            scaled[:, d] = variable.difference(values[d], hills[:, d]) / self.widths[d]
        energies = hills[:, -1] * np.exp(-0.5 * np.einsum("hd,hd->h", scaled, scaled))
        return float(energies.sum()), -(energies @ scaled) / np.array(self.widths)

    def hill(self, values: Floats, hills: Floats) -> Floats:
        """Centre and height (d + 1,) of the next hill."""
        height = self.height * np.exp(-self.at(values, hills)[0] / (KELVIN * self.tempering_K))
        return np.append(values, height)


@dataclass(frozen=True, eq=False)
class Pushed:
    """Forces and stress with those of a bias.

    Attributes
    ----------
    forces
        (N, 3), eV/Angstrom.
    stress
        (3, 3), eV/Angstrom^3; None if there is none without the bias.
    """

    forces: Floats
    stress: Floats | None


class Bias:
    """The sum of the biases of a run, with the hills of metadynamics; nothing without any.

    Parameters
    ----------
    potentials
        The biases; at most one of them is metadynamics.

    Attributes
    ----------
    hills
        (hills, d + 1) centres and heights of the hills so far.
    work
        Done on the atoms by the bias during the latest step, eV.
    """

    def __init__(self, potentials: Sequence[Potential] = ()) -> None:
        self._potentials = tuple(potentials)
        self._growing = next((p for p in potentials if isinstance(p, Metadynamics)), None)
        width = 0 if self._growing is None else len(self._growing.variables) + 1
        self.hills: Floats = np.zeros((0, width))
        self.work = 0.0
        self._energy = 0.0

    def begin(self, acting: Acting, atoms: Atoms) -> Acting:
        """What moves the atoms at the start of a segment."""
        self._energy, pushed = self._added(acting, atoms)
        self.work = 0.0
        return pushed

    def moved(self, acting: Acting, atoms: Atoms) -> Acting:
        """What moves the atoms at their new positions."""
        energy, pushed = self._added(acting, atoms)
        self.work = self._energy - energy
        self._energy = energy
        return pushed

    def grows_at(self, step: int) -> bool:
        """Whether a hill is added after a step."""
        return self._growing is not None and step % self._growing.every == 0

    def grown(self, acting: Acting, atoms: Atoms) -> Acting:
        """What moves the atoms once a hill has been added at their positions."""
        growing = self._growing
        assert growing is not None
        values = np.array([variable.of(atoms).value for variable in growing.variables])
        self.hills = np.vstack([self.hills, growing.hill(values, self.hills)])
        self._energy, pushed = self._added(acting, atoms)
        return pushed

    def energy(self, atoms: Atoms) -> float:
        """Energy of a structure with the present hills, eV."""
        found = 0.0
        for potential in self._potentials:
            values = np.array([variable.of(atoms).value for variable in potential.variables])
            found += potential.at(values, self.hills)[0]
        return found

    def _added(self, acting: Acting, atoms: Atoms) -> tuple[float, Acting]:
        if not self._potentials:
            return 0.0, acting
        energy, forces, virial = 0.0, acting.forces.copy(), np.zeros((3, 3))
        for potential in self._potentials:
            found = [variable.of(atoms) for variable in potential.variables]
            values = np.array([one.value for one in found])
            own, slopes = potential.at(values, self.hills)
            energy += own
            for variable, one, slope in zip(potential.variables, found, slopes, strict=True):
                # An atom may occur twice in a variable.
                np.subtract.at(forces, list(variable.atoms), slope * one.gradient)
                virial += slope * one.virial
        stress = acting.stress
        if stress is not None:
            stress = stress + 0.5 * (virial + virial.T) / atoms.get_volume()
        return energy, Pushed(forces, stress)

r"""Biases: potentials of collective variables, added to the forces that move the atoms.

=====================================================================  ============================
:math:`U = \frac{k}{2} (s - s_0)^2`                                    :class:`Restraint`
:math:`U = \frac{k}{2} (s - s_w)^2` beyond a wall, else 0              :class:`Walls`
:math:`U = \sum_h w_h \prod_d \exp(-(s_d - s_{h,d})^2 / 2\sigma_d^2)`  :class:`Metadynamics`
:math:`w_h = w_0 \exp(-U(s_h) / k_B \Delta T)`,                        :meth:`Metadynamics.hill`
:math:`\Delta T = (\gamma - 1) T`
:math:`c = k_B T \ln (I(1/k_BT + 1/k_B\Delta T) / I(1/k_B\Delta T))`   :meth:`Metadynamics.offsets`
:math:`I(\beta) = \int ds\, e^{\beta U(s)}`
=====================================================================  ============================

Metadynamics: Laio and Parrinello, PNAS 99, 12562 (2002); well-tempered: Barducci, Bussi and
Parrinello, Phys. Rev. Lett. 100, 020603 (2008); offsets: Tiwary and Parrinello, J. Phys. Chem. B
119, 736 (2015). The model and the labels have no part of a bias.
"""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from ase import Atoms
from scipy.special import logsumexp

from otf.arrays import Floats, Ints
from otf.dynamics.collective_variables import CollectiveVariable
from otf.dynamics.integrators import Acting
from otf.units import KELVIN

_SPACING = 0.25  # of the points of an integral over a variable, in widths of a hill


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

    def hills_before(self, steps: Ints) -> Ints:
        """Number of hills that act on the atoms while they reach each of these steps."""
        before: Ints = np.maximum(0, steps - 1) // self.every
        return before

    def offsets(self, hills: Floats, temperature_K: float) -> Floats:
        """Offsets c (hills + 1,) of the energy after each number of hills, eV.

        The integrals are over the range of the hills, over the whole circle of a torsion.
        """
        found = np.zeros(len(hills) + 1)
        if not len(hills):
            return found
        lower = 1.0 / (KELVIN * self.tempering_K)
        upper = 1.0 / (KELVIN * temperature_K) + lower
        axes = [self._axis(d, hills[:, d]) for d in range(len(self.widths))]
        energies = np.zeros([len(axis) for axis in axes])
        for h, hill in enumerate(hills):
            factors = [self._gaussian(d, axis, hill[d]) for d, axis in enumerate(axes)]
            energies += hill[-1] * functools.reduce(np.multiply.outer, factors)
            ratio = logsumexp(upper * energies) - logsumexp(lower * energies)
            found[h + 1] = KELVIN * temperature_K * ratio
        return found

    def _axis(self, d: int, centres: Floats) -> Floats:
        """Values of a variable over which the offsets are integrated."""
        spacing = _SPACING * self.widths[d]
        if self.variables[d].kind == "torsion":
            return np.linspace(-np.pi, np.pi, math.ceil(2.0 * np.pi / spacing), endpoint=False)
        low, high = centres.min(), centres.max()
        return np.linspace(low, high, 1 + math.ceil((high - low) / spacing))

    def _gaussian(self, d: int, values: Floats, centre: float) -> Floats:
        """Factor of a hill along one of the variables."""
        away = self.variables[d].difference(values, centre) / self.widths[d]
        factor: Floats = np.exp(-0.5 * away * away)
        return factor


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


class BiasState(NamedTuple):
    """What a bias has grown to.

    Attributes
    ----------
    hills
        (hills, d + 1) centres and heights of :class:`Bias`.
    files
        Lengths of the files of :class:`otf.runs.plumed.PlumedBias`, bytes.
    """

    hills: Floats
    files: Mapping[str, int]


class AddedForces(Protocol):
    """What is added to the forces that move the atoms along a trajectory."""

    @property
    def work(self) -> float:
        """Done on the atoms during the latest step, eV."""
        ...

    def begin(self, acting: Acting, atoms: Atoms, step: int) -> Acting:
        """What moves the atoms at the start of a segment."""
        ...

    def moved(self, acting: Acting, atoms: Atoms, step: int) -> Acting:
        """What moves the atoms at their new positions, those of a step."""
        ...

    def grown(self, atoms: Atoms, step: int) -> Acting:
        """What moves the atoms once the step is complete, after which the bias may have grown."""
        ...

    def capture(self) -> BiasState:
        """The present state, at the end of a segment."""
        ...

    def restore(self, state: BiasState) -> None:
        """Return to a captured state."""
        ...


class Bias(AddedForces):
    """The sum of the biases of a run, with the hills of metadynamics; nothing without any.

    Parameters
    ----------
    potentials
        The biases; at most one of them is metadynamics.

    Attributes
    ----------
    hills
        (hills, d + 1) centres and heights of the hills so far.
    """

    def __init__(self, potentials: Sequence[Potential] = ()) -> None:
        self._potentials = tuple(potentials)
        self._growing = next((p for p in potentials if isinstance(p, Metadynamics)), None)
        width = 0 if self._growing is None else len(self._growing.variables) + 1
        self.hills: Floats = np.zeros((0, width))
        self._work = self._energy = 0.0

    @property
    def work(self) -> float:
        """See :class:`AddedForces`."""
        return self._work

    def begin(self, acting: Acting, atoms: Atoms, step: int) -> Acting:
        """See :class:`AddedForces`."""
        self._work = 0.0
        return self._pushed_by(acting, atoms)

    def moved(self, acting: Acting, atoms: Atoms, step: int) -> Acting:
        """See :class:`AddedForces`."""
        before = self._energy
        pushed = self._pushed_by(acting, atoms)
        self._work = before - self._energy
        return pushed

    def grown(self, atoms: Atoms, step: int) -> Acting:
        """See :class:`AddedForces`; a hill is added every so many steps."""
        growing = self._growing
        if growing is None or step % growing.every:
            return self._pushed
        values = np.array([variable.of(atoms).value for variable in growing.variables])
        self.hills = np.vstack([self.hills, growing.hill(values, self.hills)])
        return self._pushed_by(self._bare, atoms)

    def capture(self) -> BiasState:
        """See :class:`AddedForces`."""
        return BiasState(self.hills, {})

    def restore(self, state: BiasState) -> None:
        """See :class:`AddedForces`."""
        self.hills = state.hills

    def _pushed_by(self, acting: Acting, atoms: Atoms) -> Acting:
        """What moves the atoms with the bias, of which the energy is kept."""
        self._bare = acting
        self._energy, self._pushed = self._added(acting, atoms)
        return self._pushed

    def energy(self, atoms: Atoms, hills: int | None = None) -> float:
        """Energy of a structure with all hills, or with the first ones, eV."""
        found = 0.0
        for potential in self._potentials:
            values = np.array([variable.of(atoms).value for variable in potential.variables])
            found += potential.at(values, self.hills[:hills])[0]
        return found

    def energies_of(self, frames: Iterable[Atoms], steps: Ints, temperature_K: float) -> Floats:
        r"""Energies (frames,) of which :math:`e^{U / k_B T}` takes the bias out of frames, eV.

        Of metadynamics the energy is that of the hills which acted at the step of a frame, less the
        offset that they had reached.
        """
        growing = self._growing
        if growing is None:
            return np.array([self.energy(atoms) for atoms in frames])
        before = np.minimum(growing.hills_before(steps), len(self.hills))
        offsets = growing.offsets(self.hills, temperature_K)
        energies = [self.energy(atoms, n) for atoms, n in zip(frames, before, strict=True)]
        return np.array(energies) - offsets[before]

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

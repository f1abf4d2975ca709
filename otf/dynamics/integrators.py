"""The integrators of ase.md, each with the energy its baths put in and the state they keep.

ase.md gives no other way to the state of its chains than names with an underscore, and its counts
of degrees of freedom ignore what was taken out of the momenta; tests notice if either changes.
"""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.md.bussi import Bussi
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.nose_hoover_chain import (
    MTKNPT,
    IsotropicMTKBarostat,
    IsotropicMTKNPT,
    MTKBarostat,
    NoseHooverChainThermostat,
)
from ase.md.verlet import VelocityVerlet

from otf.arrays import Floats
from otf.units import KELVIN


class Acting(Protocol):
    """What moves the atoms at one structure."""

    @property
    def forces(self) -> Floats:
        """(N, 3), eV/Angstrom."""
        ...

    @property
    def stress(self) -> Floats | None:
        """(3, 3), eV/Angstrom^3, ASE's sign; asked for at constant pressure only."""
        ...


class Integrator(ABC):
    """One timestep after another.

    Attributes
    ----------
    heat
        Energy the thermostat put into the atoms during the last step, eV.
    barostat
        The same for the barostat: by strain, at the cost of its own energy.
    """

    heat = 0.0
    barostat = 0.0

    @abstractmethod
    def step(self, acting: Acting) -> None:
        """Move the atoms by a timestep, from what acts on them now."""

    def finished(self, acting: Acting) -> None:
        """Account for a step, from what acts on the atoms after it."""
        return

    def set_temperature(self, temperature_K: float) -> None:
        """Another temperature for the baths, from the next step on."""
        raise ValueError("there is no thermostat")

    def set_pressure(self, pressure: float) -> None:
        """Another pressure for the barostat, eV/Angstrom^3, from the next step on."""
        raise ValueError("there is no barostat")

    def capture(self) -> Floats:
        """State of the baths, flat; empty where they have none."""
        return np.zeros(0)

    def restore(self, state: Floats) -> None:
        """Go back to a captured state of the baths."""
        return


class Verlet(Integrator):
    """Velocity Verlet, with or without a Nosé–Hoover chain in half steps around it."""

    def __init__(self, atoms: Atoms, timestep: float, chain: "Chain | None" = None) -> None:
        self._atoms = atoms
        self._half = 0.5 * timestep
        self._chain = chain
        self._verlet = VelocityVerlet(atoms, timestep)

    def step(self, acting: Acting) -> None:
        """See :class:`Integrator`."""
        if self._chain is None:
            self._verlet.step(acting.forces)
            return
        self._chain.heat = 0.0
        self._half_chain(self._chain)
        self._verlet.step(acting.forces)
        self._half_chain(self._chain)
        self.heat = self._chain.heat

    def _half_chain(self, chain: "Chain") -> None:
        momenta = chain.integrate_nhc(self._atoms.get_momenta(), self._half)
        self._atoms.set_momenta(momenta, apply_constraint=False)  # scaled: constraints still hold

    def set_temperature(self, temperature_K: float) -> None:
        """See :class:`Integrator`."""
        if self._chain is None:
            super().set_temperature(temperature_K)
        else:
            self._chain.bath._kT = KELVIN * temperature_K

    def capture(self) -> Floats:
        """See :class:`Integrator`."""
        if self._chain is None:
            return super().capture()
        return np.concatenate([self._chain.bath._eta, self._chain.bath._p_eta])

    def restore(self, state: Floats) -> None:
        """See :class:`Integrator`."""
        if self._chain is not None:
            self._chain.bath._eta, self._chain.bath._p_eta = state.reshape(2, -1).copy()


class Csvr(Integrator):
    """Velocity Verlet and stochastic velocity rescaling."""

    def __init__(self, bussi: Bussi, degrees: int) -> None:
        self._bussi = bussi
        # ase.md.bussi counts 3N; conserved momenta never receive their share of the energy.
        bussi.ndof = degrees
        self.set_temperature(bussi.temp / KELVIN)

    def step(self, acting: Acting) -> None:
        """See :class:`Integrator`."""
        self._bussi.transferred_energy = 0.0  # a sum would round as its past does
        self._bussi.step(acting.forces)
        self.heat = self._bussi.transferred_energy

    def set_temperature(self, temperature_K: float) -> None:
        """See :class:`Integrator`."""
        self._bussi.target_kinetic_energy = 0.5 * self._bussi.ndof * KELVIN * temperature_K


class Langevin(Integrator):
    """BAOAB; its heat is what happens between the two kicks, which are known."""

    def __init__(self, atoms: Atoms, timestep: float, baoab: LangevinBAOAB) -> None:
        self._atoms = atoms
        self._half = 0.5 * timestep
        self._masses: Floats = atoms.get_masses()[:, None]
        self._baoab = baoab

    def step(self, acting: Acting) -> None:
        """See :class:`Integrator`."""
        kicked = self._atoms.get_momenta() + self._half * self._free(acting.forces)
        self._kicked = kinetic_energy(kicked, self._masses)
        self._baoab.accel = acting.forces / self._masses
        self._baoab.step()

    def finished(self, acting: Acting) -> None:
        """See :class:`Integrator`."""
        unkicked = self._atoms.get_momenta() - self._half * self._free(acting.forces)
        self.heat = kinetic_energy(unkicked, self._masses) - self._kicked

    def _free(self, forces: Floats) -> Floats:
        """Forces (N, 3) without what constraints take away."""
        free = forces.copy()
        for constraint in self._atoms.constraints:
            constraint.adjust_forces(self._atoms, free)
        return free

    def set_temperature(self, temperature_K: float) -> None:
        """See :class:`Integrator`."""
        self._baoab.set_temperature(temperature_K)


class ConstantPressure(Integrator):
    """Martyna, Tobias and Klein's equations, isotropic or for all of the cell.

    The cell is that of the atoms, so that all there is to keep are momenta and chains.

    Parameters
    ----------
    degrees
        Of freedom that hold energy.
    time_constant, pressure_constant
        Of thermostat and barostat, ASE units.
    """

    def __init__(
        self,
        atoms: Atoms,
        timestep: float,
        *,
        isotropic: bool,
        degrees: int,
        temperature_K: float,
        pressure: float,
        time_constant: float,
        pressure_constant: float,
    ) -> None:
        self._atoms = atoms
        self._isotropic = isotropic
        kind = IsotropicMTKNPT if isotropic else MTKNPT
        md = kind(atoms, timestep, temperature_K, pressure, time_constant, pressure_constant)
        n = degrees / 3  # three degrees of freedom an atom are counted
        self._chain = Chain(n, atoms.get_masses()[:, None], temperature_K, time_constant)
        bath = IsotropicMTKBarostat if isotropic else MTKBarostat
        self._cell_chain = _CellChain(bath(n, temperature_K, pressure_constant))
        if not isotropic:
            # Momenta of the cell are symmetric: six degrees of freedom, where ase.md counts nine
            # and so keeps the cell half as hot again.
            self._cell_chain.bath._cell_dof = 6
        md._num_atoms_global, md._thermostat, md._barostat = n, self._chain, self._cell_chain
        self._md: Any = md

    def step(self, acting: Acting) -> None:
        """See :class:`Integrator`."""
        md, atoms = self._md, self._atoms
        md._q, md._p = atoms.get_positions(), atoms.get_momenta()
        volume, cell = atoms.get_volume(), atoms.cell.array.copy()
        if self._isotropic:
            md._cell0, md._volume0, md._eps = cell, volume, 0.0
        else:
            md._h = cell
        self._chain.heat = self._cell_chain.heat = 0.0
        stored = self._stored()
        md.step()
        expanded = md._pressure_au * (atoms.get_volume() - volume)
        self.heat = self._chain.heat
        self.barostat = self._cell_chain.heat - (self._stored() - stored) - expanded

    def _stored(self) -> float:
        """Kinetic energy of the cell, eV."""
        return float(np.sum(self._momentum**2) / (2.0 * self._cell_chain.W))

    @property
    def _momentum(self) -> Floats:
        return np.asarray(self._md._p_eps if self._isotropic else self._md._p_g)

    def set_temperature(self, temperature_K: float) -> None:
        """See :class:`Integrator`."""
        for bath in (self._md, self._chain.bath, self._cell_chain.bath):
            bath._kT = KELVIN * temperature_K

    def set_pressure(self, pressure: float) -> None:
        """See :class:`Integrator`."""
        self._md._pressure_au = pressure

    def capture(self) -> Floats:
        """See :class:`Integrator`."""
        atoms, cell = self._chain.bath, self._cell_chain.bath
        return np.concatenate(
            [atoms._eta, atoms._p_eta, cell._xi, cell._p_xi, self._momentum.reshape(-1)]
        )

    def restore(self, state: Floats) -> None:
        """See :class:`Integrator`."""
        atoms, cell = self._chain.bath, self._cell_chain.bath
        chains, momentum = np.split(state.copy(), [4 * len(atoms._eta)])
        atoms._eta, atoms._p_eta, cell._xi, cell._p_xi = chains.reshape(4, -1)
        if self._isotropic:
            self._md._p_eps = float(momentum[0])
        else:
            self._md._p_g = momentum.reshape(3, 3)


class Chain:
    """A Nosé–Hoover chain of three on the atoms that tells the heat it has given.

    Parameters
    ----------
    n
        Atoms, at three degrees of freedom each; no whole number where some were taken out.
    masses
        (N, 1).
    time_constant
        ASE units.
    """

    def __init__(
        self, n: float, masses: Floats, temperature_K: float, time_constant: float
    ) -> None:
        self._masses = masses
        self.bath = NoseHooverChainThermostat(n, masses, temperature_K, time_constant)
        self.heat = 0.0

    def integrate_nhc(self, p: Floats, delta: float) -> Floats:
        """Momenta after ``delta``; named as in ase.md, whose integrators call it."""
        before = kinetic_energy(p, self._masses)
        out: Floats = self.bath.integrate_nhc(p, delta)
        self.heat += kinetic_energy(out, self._masses) - before
        return out


class _CellChain:
    """The same on the cell's momenta."""

    def __init__(self, bath: Any) -> None:
        self.bath = bath
        self.W: float = bath.W
        self.heat = 0.0

    def integrate_nhc_baro(self, p: Any, delta: float) -> Any:
        """Momenta of the cell after ``delta``; named as in ase.md, whose integrators call it."""
        before = np.sum(p**2)
        out = self.bath.integrate_nhc_baro(p, delta)
        self.heat += float(np.sum(out**2) - before) / (2.0 * self.W)
        return out


def kinetic_energy(momenta: Floats, masses: Floats) -> float:
    """Of momenta (N, 3) and masses (N, 1), ASE units, eV."""
    return float(0.5 * np.sum(momenta**2 / masses))

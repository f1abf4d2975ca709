"""Integrators of ase.md with the energy transferred by their baths and the state of the baths.

ase.md exposes the state of its chains only through private attributes, and its counts of degrees of
freedom ignore momenta that were removed; tests detect if either changes.
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
    """Forces and stress of one structure."""

    @property
    def forces(self) -> Floats:
        """(N, 3), eV/Angstrom."""
        ...

    @property
    def stress(self) -> Floats | None:
        """(3, 3), eV/Angstrom^3, ASE's sign; used at constant pressure only."""
        ...


class Integrator(ABC):
    """Base class of the integrators.

    Attributes
    ----------
    heat
        Energy transferred by the thermostat to the atoms during the last step, eV.
    barostat
        The same for the barostat, eV.
    """

    heat = 0.0
    barostat = 0.0

    @abstractmethod
    def step(self, acting: Acting) -> None:
        """Propagate the atoms by a timestep, given the current forces and stress."""

    def finished(self, acting: Acting) -> None:
        """Complete the energy account of a step, given the forces after it."""
        return

    def set_temperature(self, temperature_K: float) -> None:
        """Set the temperature of the baths from the next step on."""
        raise ValueError("there is no thermostat")

    def set_pressure(self, pressure: float) -> None:
        """Set the pressure of the barostat, eV/Angstrom^3, from the next step on."""
        raise ValueError("there is no barostat")

    def capture(self) -> Floats:
        """State of the baths, flat; empty if they have none."""
        return np.zeros(0)

    def restore(self, state: Floats) -> None:
        """Restore a captured state of the baths."""
        return


class Verlet(Integrator):
    """Velocity Verlet, optionally between half steps of a Nosé–Hoover chain."""

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
        self._atoms.set_momenta(momenta, apply_constraint=False)  # scaling preserves constraints

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
    """Velocity Verlet with stochastic velocity rescaling."""

    def __init__(self, bussi: Bussi, degrees: int) -> None:
        self._bussi = bussi
        # ase.md.bussi counts 3N; conserved momenta never receive kinetic energy.
        bussi.ndof = degrees
        self.set_temperature(bussi.temp / KELVIN)

    def step(self, acting: Acting) -> None:
        """See :class:`Integrator`."""
        self._bussi.transferred_energy = 0.0  # a running sum would round depending on its history
        self._bussi.step(acting.forces)
        self.heat = self._bussi.transferred_energy

    def set_temperature(self, temperature_K: float) -> None:
        """See :class:`Integrator`."""
        self._bussi.target_kinetic_energy = 0.5 * self._bussi.ndof * KELVIN * temperature_K


class Langevin(Integrator):
    """Langevin dynamics (BAOAB); its heat is the change of kinetic energy between the two kicks."""

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
        """Forces (N, 3) after the constraints are applied."""
        free = forces.copy()
        for constraint in self._atoms.constraints:
            constraint.adjust_forces(self._atoms, free)
        return free

    def set_temperature(self, temperature_K: float) -> None:
        """See :class:`Integrator`."""
        self._baoab.set_temperature(temperature_K)


class ConstantPressure(Integrator):
    """Martyna-Tobias-Klein dynamics with isotropic or fully flexible cell.

    The cell is that of the atoms; the state to capture is cell momenta and chains only.

    Parameters
    ----------
    degrees
        Number of unconstrained degrees of freedom.
    time_constant, pressure_constant
        Time constants of thermostat and barostat, ASE units.
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
        n = degrees / 3  # ase.md counts three degrees of freedom per atom
        self._chain = Chain(n, atoms.get_masses()[:, None], temperature_K, time_constant)
        bath = IsotropicMTKBarostat if isotropic else MTKBarostat
        self._cell_chain = _CellChain(bath(n, temperature_K, pressure_constant))
        if not isotropic:
            # Cell momenta are symmetric: six degrees of freedom. ase.md counts nine, which gives
            # the cell 1.5 times the target temperature.
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
    """A Nosé–Hoover chain on the atoms that records the heat it transfers.

    Parameters
    ----------
    n
        Number of atoms, at three degrees of freedom each; fractional if some were removed.
    masses
        (N, 1), amu.
    time_constant
        Relaxation time, ASE units.
    """

    def __init__(
        self, n: float, masses: Floats, temperature_K: float, time_constant: float
    ) -> None:
        self._masses = masses
        self.bath = NoseHooverChainThermostat(n, masses, temperature_K, time_constant)
        self.heat = 0.0

    def integrate_nhc(self, p: Floats, delta: float) -> Floats:
        """Momenta after ``delta``; called by the integrators of ase.md under this name."""
        before = kinetic_energy(p, self._masses)
        out: Floats = self.bath.integrate_nhc(p, delta)
        self.heat += kinetic_energy(out, self._masses) - before
        return out


class _CellChain:
    """A Nosé–Hoover chain on the cell momenta that records the heat it transfers."""

    def __init__(self, bath: Any) -> None:
        self.bath = bath
        self.W: float = bath.W
        self.heat = 0.0

    def integrate_nhc_baro(self, p: Any, delta: float) -> Any:
        """Cell momenta after ``delta``; called by the integrators of ase.md under this name."""
        before = np.sum(p**2)
        out = self.bath.integrate_nhc_baro(p, delta)
        self.heat += float(np.sum(out**2) - before) / (2.0 * self.W)
        return out


def kinetic_energy(momenta: Floats, masses: Floats) -> float:
    """Kinetic energy (eV) from momenta (N, 3) and masses (N, 1) in ASE units."""
    return float(0.5 * np.sum(momenta**2 / masses))

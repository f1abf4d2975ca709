"""Ensembles: their settings, integrators and complete dynamical state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
from ase import Atoms
from ase.md.bussi import Bussi
from ase.md.langevinbaoab import LangevinBAOAB
from ase.stress import full_3x3_to_voigt_6_stress

from otf.arrays import Floats
from otf.dynamics.integrators import (
    Acting,
    Chain,
    ConstantPressure,
    Csvr,
    Integrator,
    Langevin,
    Verlet,
)
from otf.units import FS, GPA, KELVIN, PS

Kind = Literal["nve", "csvr", "langevin", "nhc", "npt", "npt_full"]
A = TypeVar("A", bound=Acting)


@dataclass(frozen=True)
class EnsembleSettings:
    """Type and parameters of an ensemble.

    Attributes
    ----------
    kind
        ``nve``; ``csvr``, stochastic velocity rescaling (Bussi, Donadio, Parrinello, J. Chem.
        Phys. 126, 014101 (2007)); ``langevin``, in the order BAOAB (Leimkuhler and Matthews,
        J. Chem. Phys. 138, 174102 (2013)); ``nhc``, a chain of three Nosé–Hoover thermostats
        (Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635 (1992)); ``npt`` and ``npt_full``,
        such chains on atoms and cell (Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177
        (1994)), with isotropic or fully flexible cell (six strains).
    time_constant_fs, pressure_constant_fs
        Relaxation times of thermostat and barostat.
    """

    kind: Kind
    timestep_fs: float
    temperature_K: float
    time_constant_fs: float = 100.0
    friction_per_ps: float = 10.0
    pressure_GPa: float = 0.0
    pressure_constant_fs: float = 1000.0


@dataclass(frozen=True, eq=False)
class DynamicsState:
    """Complete state of the dynamics, which determines the next step.

    Attributes
    ----------
    positions, momenta
        (N, 3), ASE units.
    cell
        (3, 3), Angstrom.
    random
        State of the random number generator, as returned by NumPy.
    baths
        Positions and momenta of thermostat and barostat, flat; empty if there are none.
    stage
        Index of the stage of the run.
    hills, files
        See :class:`otf.dynamics.bias.BiasState`.
    """

    positions: Floats
    momenta: Floats
    cell: Floats
    random: Mapping[str, Any]
    baths: Floats = field(default_factory=lambda: np.zeros(0))
    stage: int = 0
    hills: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    files: Mapping[str, int] = field(default_factory=dict)


class Ensemble:
    """Propagates atoms in an ensemble; its state can be captured and restored.

    Parameters
    ----------
    atoms
        The structure; propagated in place.
    settings
        Ensemble and its parameters.
    rng
        Source of all random numbers of the dynamics.
    conserved
        Number of degrees of freedom without kinetic energy: their momentum was removed and is
        conserved.
    """

    def __init__(
        self,
        atoms: Atoms,
        settings: EnsembleSettings,
        rng: np.random.Generator,
        *,
        conserved: int = 0,
    ) -> None:
        self.atoms = atoms
        # Langevin noise excites every degree of freedom, also those removed initially.
        free = 0 if settings.kind == "langevin" else conserved
        self._degrees = max(1, atoms.get_number_of_degrees_of_freedom() - free)
        self._rng = rng
        self._source = atoms.calc = _Source()
        self._integrator = self._make(settings)

    def _make(self, settings: EnsembleSettings) -> Integrator:
        atoms, timestep = self.atoms, settings.timestep_fs * FS
        temperature_K, time_constant = settings.temperature_K, settings.time_constant_fs * FS
        if settings.kind == "nve":
            return Verlet(atoms, timestep)
        if settings.kind == "nhc":
            # The chain counts three degrees of freedom per atom.
            masses = atoms.get_masses()[:, None]
            chain = Chain(self._degrees / 3, masses, temperature_K, time_constant)
            return Verlet(atoms, timestep, chain)
        if settings.kind == "csvr":
            bussi = Bussi(
                atoms, timestep, temperature_K=temperature_K, taut=time_constant, rng=self._rng
            )
            return Csvr(bussi, self._degrees)
        if settings.kind == "langevin":
            self._source.set(atoms, _Nothing(np.zeros_like(atoms.positions)))  # read by BAOAB
            baoab = LangevinBAOAB(
                atoms,
                timestep,
                temperature_K=temperature_K,
                T_tau=PS / settings.friction_per_ps,
                rng=self._rng,
            )
            return Langevin(atoms, timestep, baoab)
        return ConstantPressure(
            atoms,
            timestep,
            isotropic=settings.kind == "npt",
            degrees=self._degrees,
            temperature_K=temperature_K,
            pressure=settings.pressure_GPa * GPA,
            time_constant=time_constant,
            pressure_constant=settings.pressure_constant_fs * FS,
        )

    @property
    def heat(self) -> float:
        """Energy transferred by the thermostat to the atoms during the last step, eV."""
        return self._integrator.heat

    @property
    def barostat(self) -> float:
        """Energy transferred by the barostat to the atoms during the last step, eV."""
        return self._integrator.barostat

    def set_temperature(self, temperature_K: float) -> None:
        """Set the temperature of the thermostat from the next step on.

        Raises
        ------
        ValueError
            If there is no thermostat.
        """
        self._integrator.set_temperature(temperature_K)

    def set_pressure(self, pressure_GPa: float) -> None:
        """Set the pressure of the barostat from the next step on.

        Raises
        ------
        ValueError
            If there is no barostat.
        """
        self._integrator.set_pressure(pressure_GPa * GPA)

    def step(self, acting: A, next_acting: Callable[[Atoms], A]) -> A:
        """Propagate by one timestep.

        Parameters
        ----------
        acting
            Forces, and stress at constant pressure, of the current structure.
        next_acting
            Called once with the structure at its new positions.

        Returns
        -------
        Forces and stress of the new structure, as returned by ``next_acting``.
        """
        seen: list[A] = []

        def ask(atoms: Atoms) -> A:
            seen.append(next_acting(atoms))
            return seen[-1]

        self._source.set(self.atoms, acting, then=ask)
        self._integrator.step(acting)
        if not seen:  # no atom has moved: at rest without forces
            ask(self.atoms)
        self._integrator.finished(seen[-1])
        return seen[-1]

    def temperature(self) -> float:
        """Kinetic temperature of the unconstrained degrees of freedom, K."""
        return float(2.0 * self.atoms.get_kinetic_energy() / (self._degrees * KELVIN))

    def capture(self) -> DynamicsState:
        """A copy of the current state."""
        return DynamicsState(
            self.atoms.get_positions(),
            self.atoms.get_momenta(),
            self.atoms.cell.array.copy(),
            self._rng.bit_generator.state,
            self._integrator.capture(),
        )

    def restore(self, state: DynamicsState) -> None:
        """Restore a captured state bit by bit."""
        self.atoms.set_cell(state.cell)
        self.atoms.set_positions(state.positions, apply_constraint=False)
        self.atoms.set_momenta(state.momenta, apply_constraint=False)
        self._rng.bit_generator.state = state.random
        self._integrator.restore(state.baths)


@dataclass(frozen=True, eq=False)
class _Nothing:
    forces: Floats
    stress: Floats | None = None


class _Source:
    """Calculator for ase.md: holds forces and stress of one structure, computes the next."""

    def set(
        self, atoms: Atoms, acting: Acting, *, then: Callable[[Atoms], Acting] | None = None
    ) -> None:
        """Set forces and stress of ``atoms`` at their current positions."""
        self._ask = then
        self._set(atoms, acting)

    def _set(self, atoms: Atoms, acting: Acting) -> None:
        self._positions, self._cell = atoms.get_positions(), atoms.cell.array.copy()
        self._acting = acting

    def _at(self, atoms: Atoms) -> Acting:
        same = np.array_equal(atoms.positions, self._positions)
        if not (same and np.array_equal(atoms.cell.array, self._cell)):
            if self._ask is None:
                raise RuntimeError("forces were requested outside of a step")
            self._set(atoms, self._ask(atoms))
        return self._acting

    def get_forces(self, atoms: Atoms) -> Floats:
        return self._at(atoms).forces.copy()  # constraints modify them in place

    def get_stress(self, atoms: Atoms) -> Floats:
        stress = self._at(atoms).stress
        if stress is None:
            raise RuntimeError("constant pressure needs a stress, and none is available")
        voigt: Floats = full_3x3_to_voigt_6_stress(stress)
        return voigt

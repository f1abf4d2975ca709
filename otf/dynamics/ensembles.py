"""The integrators of ase.md behind one step, and the state that makes a step repeatable."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.md.bussi import Bussi
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.nose_hoover_chain import NoseHooverChainThermostat
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet

from otf.arrays import Floats
from otf.units import FS, KELVIN, PS

Forces = Callable[[Atoms], Floats]


@dataclass(frozen=True)
class EnsembleSettings:
    """Which ensemble, and its constants.

    Attributes
    ----------
    kind
        ``nve``; ``csvr``, stochastic velocity rescaling (Bussi, Donadio, Parrinello, J. Chem.
        Phys. 126, 014101 (2007)); ``langevin``, in the order BAOAB (Leimkuhler and Matthews,
        J. Chem. Phys. 138, 174102 (2013)); ``nhc``, a chain of three Nosé–Hoover thermostats
        (Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635 (1992)).
    """

    kind: Literal["nve", "csvr", "langevin", "nhc"]
    timestep_fs: float
    temperature_K: float
    time_constant_fs: float
    friction_per_ps: float


@dataclass(frozen=True, eq=False)
class DynamicsState:
    """All that the next step depends on.

    Attributes
    ----------
    positions, momenta
        (N, 3), ASE units.
    random
        State of the random generator, as numpy gives it.
    thermostat
        (2, 3) positions and momenta of a Nosé–Hoover chain; empty without one.
    """

    positions: Floats
    momenta: Floats
    random: Mapping[str, Any]
    thermostat: Floats = field(default_factory=lambda: np.zeros((0, 3)))


class Ensemble:
    """An integrator that can go back to a state it was in.

    Parameters
    ----------
    atoms
        The structure; it is moved in place.
    settings
        Ensemble and constants.
    rng
        Source of all random numbers of the dynamics.
    conserved
        Degrees of freedom that hold no energy because their momentum was removed and is conserved.
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
        # Langevin noise drives every degree of freedom, whatever the initial velocities lacked.
        free = 0 if settings.kind == "langevin" else conserved
        self._degrees = max(1, atoms.get_number_of_degrees_of_freedom() - free)
        self._rng = rng
        self._masses: Floats = atoms.get_masses()[:, None]
        self._kind = settings.kind
        self.heat = 0.0
        """Energy the thermostat put in during the last step, eV."""
        self._source = _ForceSource()
        atoms.calc = self._source
        self._timestep = timestep = settings.timestep_fs * FS
        self._chain: NoseHooverChainThermostat | None = None
        if settings.kind in ("nve", "nhc"):
            self._integrator = VelocityVerlet(atoms, timestep)
            if settings.kind == "nhc":
                self._chain = NoseHooverChainThermostat(
                    self._degrees / 3,  # it counts three degrees of freedom an atom
                    self._masses,
                    settings.temperature_K,
                    settings.time_constant_fs * FS,
                )
        elif settings.kind == "csvr":
            self._integrator = Bussi(
                atoms,
                timestep,
                temperature_K=settings.temperature_K,
                taut=settings.time_constant_fs * FS,
                rng=rng,
            )
            # ase.md.bussi counts 3N; conserved momenta never receive their share of the energy.
            self._integrator.ndof = self._degrees
            self._integrator.target_kinetic_energy = (
                0.5 * self._degrees * KELVIN * settings.temperature_K
            )
        else:
            self._source.forces = lambda atoms: np.zeros_like(atoms.positions)  # asked at once
            self._integrator = LangevinBAOAB(
                atoms,
                timestep,
                temperature_K=settings.temperature_K,
                T_tau=PS / settings.friction_per_ps,
                rng=rng,
            )

    def set_temperature(self, temperature_K: float) -> None:
        """Another temperature for the thermostat, from the next step on (csvr and langevin)."""
        if self._kind == "csvr":
            self._integrator.target_kinetic_energy = 0.5 * self._degrees * KELVIN * temperature_K
        elif self._kind == "langevin":
            self._integrator.set_temperature(temperature_K)
        else:
            raise ValueError(f"{self._kind} has no temperature to be changed")

    def step(self, forces: Floats, next_forces: Forces) -> Floats:
        """One timestep.

        Parameters
        ----------
        forces
            (N, 3) at the present positions.
        next_forces
            Called once with the structure at its new positions.

        Returns
        -------
        (N, 3) array
            The forces at the new positions.
        """
        seen: list[Floats] = []

        def source(atoms: Atoms) -> Floats:
            seen[:] = [next_forces(atoms)]
            return seen[0]

        self._source.forces = source
        if self._kind == "langevin":
            self.heat = self._langevin(forces, seen)
        elif self._kind == "csvr":
            self._integrator.transferred_energy = 0.0  # a sum would round as its past does
            self._integrator.step(forces)
            self.heat = self._integrator.transferred_energy
        else:
            self.heat = self._half_chain()
            self._integrator.step(forces)
            self.heat += self._half_chain()
        return seen[0]

    def _langevin(self, forces: Floats, seen: list[Floats]) -> float:
        """A BAOAB step; its heat is what happens between the two kicks, which are known."""
        half = 0.5 * self._timestep
        kicked = self._kinetic(self.atoms.get_momenta() + half * self._free(forces))
        self._integrator.accel = forces / self._masses
        self._integrator.step()
        return self._kinetic(self.atoms.get_momenta() - half * self._free(seen[0])) - kicked

    def _half_chain(self) -> float:
        """Half a step of the Nosé–Hoover chain, if there is one; the energy it puts in."""
        if self._chain is None:
            return 0.0
        momenta = self.atoms.get_momenta()
        before = self._kinetic(momenta)
        momenta = self._chain.integrate_nhc(momenta, 0.5 * self._timestep)
        self.atoms.set_momenta(momenta, apply_constraint=False)  # scaled: constraints still hold
        return self._kinetic(momenta) - before

    def _free(self, forces: Floats) -> Floats:
        """Forces (N, 3) without what constraints take away."""
        free = forces.copy()
        for constraint in self.atoms.constraints:
            constraint.adjust_forces(self.atoms, free)
        return free

    def _kinetic(self, momenta: Floats) -> float:
        return float(0.5 * np.sum(momenta**2 / self._masses))

    def temperature(self) -> float:
        """Kinetic temperature over the degrees of freedom that hold energy, K."""
        return float(2.0 * self.atoms.get_kinetic_energy() / (self._degrees * KELVIN))

    def capture(self) -> DynamicsState:
        """The present state, independent of what happens next."""
        chain = self._chain
        return DynamicsState(
            self.atoms.get_positions(),
            self.atoms.get_momenta(),
            self._rng.bit_generator.state,
            np.zeros((0, 3)) if chain is None else np.array([chain._eta, chain._p_eta]),
        )

    def restore(self, state: DynamicsState) -> None:
        """Go back to a captured state, to the last bit."""
        self.atoms.set_positions(state.positions, apply_constraint=False)
        self.atoms.set_momenta(state.momenta, apply_constraint=False)
        self._rng.bit_generator.state = state.random
        if self._chain is not None:
            # ase.md has no other way to its state; a test would notice if the names changed.
            self._chain._eta, self._chain._p_eta = state.thermostat.copy()


class _ForceSource:
    """The calculator ase.md asks; it holds no results, so nothing can be stale."""

    def __init__(self) -> None:
        self.forces: Forces | None = None

    def get_forces(self, atoms: Atoms) -> Floats:
        if self.forces is None:
            raise RuntimeError("forces were asked for outside of a step")
        return self.forces(atoms)


def draw_velocities(
    atoms: Atoms,
    temperature_K: float,
    rng: np.random.Generator,
    *,
    remove_translation: bool,
    remove_rotation: bool,
) -> None:
    """Give the atoms Maxwell-Boltzmann momenta whose kinetic temperature is as wanted.

    Parameters
    ----------
    temperature_K
        Exact, over the degrees of freedom that are left: a small molecule's draw alone could be
        off by a factor of three.
    remove_translation, remove_rotation
        What to take out, see :func:`remove_motion`.
    """
    width = np.sqrt(KELVIN * temperature_K * atoms.get_masses())
    atoms.set_momenta(width[:, None] * rng.standard_normal((len(atoms), 3)))
    conserved = remove_motion(atoms, translation=remove_translation, rotation=remove_rotation)
    degrees = atoms.get_number_of_degrees_of_freedom() - conserved
    kinetic = float(atoms.get_kinetic_energy())
    if kinetic > 0.0:
        wanted = 0.5 * degrees * KELVIN * temperature_K
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(wanted / kinetic))


def remove_motion(atoms: Atoms, *, translation: bool, rotation: bool) -> int:
    """Take the motion of the whole out of the momenta.

    Returns
    -------
    int
        Degrees of freedom that hold no energy any more.
    """
    conserved = 0
    if translation:
        Stationary(atoms, preserve_temperature=False)
        conserved += 3
    if rotation:
        conserved += _stop_rotation(atoms)
    return conserved


def _stop_rotation(atoms: Atoms) -> int:
    """Take the rigid rotation out; 3 degrees of freedom, 2 for a linear molecule.

    ase.md's ZeroRotation divides by zero for linear molecules.
    """
    arm = atoms.positions - atoms.get_center_of_mass()
    masses = atoms.get_masses()[:, None]
    inertia = np.sum(masses * arm**2) * np.eye(3) - arm.T @ (masses * arm)
    angular_momentum = np.cross(arm, atoms.get_momenta()).sum(axis=0)
    omega = np.linalg.pinv(inertia, rcond=1e-6, hermitian=True) @ angular_momentum
    atoms.set_momenta(atoms.get_momenta() - masses * np.cross(omega, arm))
    return int(np.linalg.matrix_rank(inertia, tol=1e-6 * np.trace(inertia), hermitian=True))

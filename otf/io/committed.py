"""Committed frames in memory: a single frame and a trajectory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.units import FS

ENGINE, MODEL = 0, 1
"""Values of ``source``: where the forces of a frame come from."""

SAMPLING = ("burn-in", "sample")
"""Stages of hybrid Monte Carlo."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One committed step.

    Attributes
    ----------
    step, time_fs
        Step and time.
    cell
        (3, 3), Angstrom; zeros if there is none.
    positions, momenta, forces
        (N, 3) in ASE units.
    potential_energy, kinetic_energy
        eV; the potential energy is that of the source.
    temperature_K
        Temperature of the degrees of freedom that carry kinetic energy.
    source
        :data:`ENGINE` or :data:`MODEL`.
    labels
        Number of labels learned when the frame was committed: the version of the model.
    conserved_energy, energy_discontinuity, heat, work, barostat
        Terms of the energy account :class:`otf.dynamics.ledger.Ledger`, eV.
    pressure_GPa
        Pressure with its kinetic part; NaN if no stress is learned.
    stage
        Number of the stage.
    """

    step: int
    time_fs: float
    cell: Floats
    positions: Floats
    momenta: Floats
    forces: Floats
    potential_energy: float
    kinetic_energy: float
    temperature_K: float
    source: int
    labels: int
    conserved_energy: float
    energy_discontinuity: float
    heat: float
    work: float
    barostat: float
    pressure_GPa: float
    stage: int


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Committed frames of a run.

    Attributes
    ----------
    atoms
        Species, masses, cell and periodicity; its positions are not used.
    stages
        Names of the stages, in the order of their numbers.
    """

    atoms: Atoms
    stages: tuple[str, ...]
    _series: dict[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.step)

    @property
    def step(self) -> Ints:
        """(frames,)."""
        return self._series["step"].astype(np.int64)

    @property
    def time_fs(self) -> Floats:
        """(frames,)."""
        return self._series["time"]

    @property
    def positions(self) -> Floats:
        """(frames, N, 3), Angstrom, not wrapped."""
        return self._series["position"]

    @property
    def velocities(self) -> Floats:
        """(frames, N, 3), Angstrom/fs."""
        return self._series["velocity"]

    @property
    def forces(self) -> Floats:
        """(frames, N, 3), eV/Angstrom."""
        return self._series["force"]

    @property
    def potential_energy(self) -> Floats:
        """(frames,), eV."""
        return self._series["potential_energy"]

    @property
    def kinetic_energy(self) -> Floats:
        """(frames,), eV."""
        return self._series["kinetic_energy"]

    @property
    def temperature(self) -> Floats:
        """(frames,), K."""
        return self._series["temperature"]

    @property
    def conserved_energy(self) -> Floats:
        """(frames,), eV: constant up to the integrator's error, see otf.dynamics.ledger."""
        return self._series["conserved_energy"]

    @property
    def energy_discontinuity(self) -> Floats:
        """(frames,), eV: sum of the energy discontinuities at changes of the potential."""
        return self._series["energy_discontinuity"]

    @property
    def heat(self) -> Floats:
        """(frames,), eV: heat from the thermostat."""
        return self._series["heat"]

    @property
    def work(self) -> Floats:
        """(frames,), eV: work of the forces that have no potential, and of the bias."""
        return self._series["work"]

    @property
    def barostat(self) -> Floats:
        """(frames,), eV: energy from the barostat."""
        return self._series["barostat"]

    @property
    def pressure_GPa(self) -> Floats:
        """(frames,): pressure with its kinetic part; NaN if no stress is learned."""
        return self._series["pressure"]

    @property
    def stage(self) -> Ints:
        """(frames,): number of the stage."""
        return self._series["stage"].astype(np.int64)

    @property
    def cells(self) -> Floats:
        """(frames, 3, 3), Angstrom."""
        if "edges" in self._series:
            return self._series["edges"]
        return np.tile(self.atoms.cell.array, (len(self), 1, 1))

    @property
    def source(self) -> Ints:
        """(frames,), either :data:`ENGINE` or :data:`MODEL`."""
        return self._series["source"].astype(np.int64)

    def frame(self, i: int) -> Atoms:
        """Frame i as ``ase.Atoms`` with momenta."""
        atoms = self.atoms.copy()
        atoms.set_cell(self.cells[i])
        atoms.positions[:] = self.positions[i]
        atoms.set_velocities(self.velocities[i] / FS)
        return atoms

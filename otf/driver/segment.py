"""Integration of trajectory segments on given forces, with their energy account.

One generator integrates for molecular dynamics, on the forces of the model or of the engine, and
for the proposals of hybrid Monte Carlo. It starts from a given position, so that a segment can be
integrated again with another model and the same random numbers.
"""

from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.driver.multiple_time_steps import MultipleTimeSteps
from otf.driver.policy import Reason
from otf.driver.records import Activity, Phase
from otf.driver.residual_correction import ResidualCorrection
from otf.dynamics.ensembles import DynamicsState
from otf.dynamics.integrators import Acting
from otf.dynamics.ledger import Ledger
from otf.dynamics.stages import StagedEnsemble
from otf.engines.labels import Labels
from otf.engines.sanity import blown_up
from otf.io.committed import Frame
from otf.learning.force_model import ForceModel
from otf.model.tensor_energy import Prediction
from otf.units import GPA


class Driving(Protocol):
    """Energy, forces and stress that move the atoms: a prediction, or labels."""

    @property
    def energy(self) -> float:
        """Energy, eV."""
        ...

    @property
    def forces(self) -> Floats:
        """(N, 3), eV/Angstrom."""
        ...

    @property
    def stress(self) -> Floats | None:
        """(3, 3), eV/Angstrom^3, ASE's sign."""
        ...


class DrivingForces(Protocol):
    """The source of a segment's forces."""

    @property
    def work(self) -> float:
        """Work done since :meth:`begin` by forces that have no potential, eV."""
        ...

    def begin(self, atoms: Atoms, step: int, length: int) -> Driving:
        """Forces at the start of a segment of a number of steps."""
        ...

    def at(self, atoms: Atoms, step: int) -> Driving:
        """Forces at a later step.

        Raises
        ------
        FloatingPointError
            If the positions are not finite.
        """
        ...

    def acting(self, driving: Driving) -> Acting:
        """What moves the atoms at the latest step: other forces with multiple time steps."""
        ...

    def diverged(self, before: Floats, atoms: Atoms, driving: Driving) -> bool:
        """Whether the step from the positions ``before`` is unphysically large."""
        ...


class HasForceModel(Protocol):
    """What holds the present force model, such as a learner."""

    @property
    def force_model(self) -> ForceModel:
        """The present model."""
        ...


class ModelForces:
    """Forces of the model, with the autoregressive residual where it is propagated."""

    def __init__(self, learner: HasForceModel, correction: ResidualCorrection) -> None:
        self._learner = learner
        self.correction = correction
        self._steps = MultipleTimeSteps(learner.force_model, 0)

    @property
    def work(self) -> float:
        """See :class:`DrivingForces`."""
        return self.correction.work

    def begin(self, atoms: Atoms, step: int, length: int) -> Prediction:
        """See :class:`DrivingForces`."""
        self.correction.begin()
        self._steps = MultipleTimeSteps(self._learner.force_model, length)
        return self.at(atoms, step)

    def at(self, atoms: Atoms, step: int) -> Prediction:
        """See :class:`DrivingForces`."""
        if not np.isfinite(atoms.positions).all():
            raise FloatingPointError
        return self.correction.applied(self._steps.predict(atoms), atoms.positions, step)

    def acting(self, driving: Driving) -> Acting:
        """See :class:`DrivingForces`."""
        return self._steps.acting(driving)

    def diverged(self, before: Floats, atoms: Atoms, driving: Driving) -> bool:
        """See :class:`DrivingForces`."""
        return blown_up(before, atoms.positions, driving.forces)


class EngineForces:
    """Forces of the engine: those of the given label at the start, then those of new labels.

    Parameters
    ----------
    latest
        The label at the start.
    label
        Takes the label of the moved atoms at a step.
    """

    work = 0.0

    def __init__(self, latest: Labels, label: Callable[[int], Labels]) -> None:
        self.latest = latest
        self._label = label

    def begin(self, atoms: Atoms, step: int, length: int) -> Labels:
        """See :class:`DrivingForces`."""
        return self.latest

    def at(self, atoms: Atoms, step: int) -> Labels:
        """See :class:`DrivingForces`."""
        self.latest = self._label(step)
        return self.latest

    def acting(self, driving: Driving) -> Acting:
        """See :class:`DrivingForces`."""
        return driving

    def diverged(self, before: Floats, atoms: Atoms, driving: Driving) -> bool:
        """Never: engines check their own results."""
        return False


@dataclass(frozen=True, eq=False)
class Position:
    """A point of a trajectory: all that its continuation depends on besides the forces."""

    step: int
    dynamics: DynamicsState
    ledger: Ledger


@dataclass(frozen=True, eq=False)
class Integrated:
    """An integrated segment.

    Attributes
    ----------
    frames
        Frames to write; empty unless requested.
    length
        Number of steps made.
    reason
        Why it ended early, or None.
    passed
        Copies of the atoms at the steps that were asked for, as far as they were reached.
    """

    frames: list[Frame]
    length: int
    reason: Reason | None
    passed: Mapping[int, Atoms]


Alarm = Callable[[int, Driving], Reason | None]
"""Reason to end a segment after a number of its steps, or None."""


class SegmentIntegrator:
    """Integrates segments and keeps the present step and energy account.

    Parameters
    ----------
    ensemble
        Integrator of the atoms.
    timestep_fs, frame_every
        For frames: the timestep, and steps between frames that are written.
    has_pressure
        Whether frames have a pressure, as the model learns the stress.
    """

    def __init__(
        self,
        ensemble: StagedEnsemble,
        *,
        timestep_fs: float,
        frame_every: int = 1,
        has_pressure: bool = False,
    ) -> None:
        self._ensemble = ensemble
        self._timestep_fs = timestep_fs
        self._frame_every = frame_every
        self._has_pressure = has_pressure
        self.step = 0
        self.ledger = Ledger()

    @property
    def position(self) -> Position:
        """The present point of the trajectory."""
        return Position(self.step, self._ensemble.capture(), self.ledger)

    def go_to(self, position: Position) -> None:
        """Go back to a point of the trajectory."""
        self._ensemble.restore(position.dynamics)
        self.step, self.ledger = position.step, position.ledger

    def integrate(
        self,
        start: Position,
        length: int,
        forces: DrivingForces,
        *,
        phase: Phase | None = None,
        alarm: Alarm | None = None,
        keep: tuple[int, int] | None = None,
        copy_at: Collection[int] = (),
    ) -> Generator[Activity, None, Integrated]:
        """Integrate a segment.

        Parameters
        ----------
        start
            Where the segment begins.
        length
            Maximum number of steps.
        forces
            Forces that drive the dynamics.
        phase
            Phase yielded as an activity after each step; None to yield nothing.
        alarm
            Called after every step but the last; a reason ends the segment.
        keep
            Source and number of labels of the frames to keep; None to keep none.
        copy_at
            Steps of the segment, from 1, at which to copy the atoms.

        Returns
        -------
        Integrated
            With the reason ``"explosion"`` if the dynamics diverged; positions are then invalid.
        """
        self.go_to(start)
        atoms, frames, passed = self._ensemble.atoms, list[Frame](), dict[int, Atoms]()
        driving, bias = forces.begin(atoms, self.step, length), self._ensemble.bias
        acting = bias.begin(forces.acting(driving), atoms, self.step)
        self.ledger = self.ledger.switched(driving.energy)

        def forces_ahead(moved: Atoms) -> Acting:
            nonlocal driving
            driving = forces.at(moved, self.step + 1)
            return bias.moved(forces.acting(driving), moved, self.step + 1)

        for done in range(1, length + 1):
            before, worked = atoms.get_positions(), forces.work
            try:
                acting = self._ensemble.step(self.step, acting, forces_ahead)
            except (FloatingPointError, ValueError) as error:
                if type(error) is ValueError and not self._has_collapsed():
                    raise
                return Integrated(frames, done - 1, "explosion", passed)
            if forces.diverged(before, atoms, driving):
                return Integrated(frames, done - 1, "explosion", passed)
            self.step += 1
            self.ledger = self.ledger.moved(
                driving.energy,
                heat=self._ensemble.heat,
                barostat=self._ensemble.barostat,
                work=forces.work - worked,
                bias=bias.work,
            )
            acting = bias.grown(atoms, self.step)
            if done in copy_at:
                passed[done] = atoms.copy()
            if keep is not None:
                frames += self.frame(driving, source=keep[0], labels=keep[1])
            if phase is not None:
                yield Activity(self.step, phase)
            reason = alarm(done, driving) if alarm is not None and done < length else None
            if reason is not None:
                return Integrated(frames, done, reason, passed)
        return Integrated(frames, length, None, passed)

    def _has_collapsed(self) -> bool:
        """Whether the barostat has left no cell."""
        atoms = self._ensemble.atoms
        return bool(atoms.cell.rank < np.count_nonzero(atoms.pbc))

    def frame(self, driving: Driving, *, source: int, labels: int) -> list[Frame]:
        """The present step as a frame; empty if this step is not written."""
        if self.step % self._frame_every:
            return []
        pressure_GPa = self._pressure_GPa(driving) if self._has_pressure else float("nan")
        return [
            make_frame(
                self._ensemble,
                self.step,
                self.step * self._timestep_fs,
                forces=driving.forces,
                ledger=self.ledger,
                source=source,
                labels=labels,
                pressure_GPa=pressure_GPa,
            )
        ]

    def _pressure_GPa(self, driving: Driving) -> float:
        """Pressure including the kinetic part; NaN if there is no stress."""
        if driving.stress is None:
            return float("nan")
        atoms = self._ensemble.atoms
        kinetic = 2.0 * float(atoms.get_kinetic_energy()) / atoms.get_volume()
        return float(kinetic - np.trace(driving.stress)) / (3.0 * GPA)


def make_frame(
    ensemble: StagedEnsemble,
    step: int,
    time_fs: float,
    *,
    forces: Floats,
    ledger: Ledger,
    source: int,
    labels: int,
    pressure_GPa: float = float("nan"),
) -> Frame:
    """The atoms of an ensemble as a frame.

    Parameters
    ----------
    forces
        (N, 3) forces that drove the dynamics, eV/Angstrom.
    ledger
        Energy account, with the potential energy.
    source, labels, pressure_GPa
        See :class:`otf.io.committed.Frame`.
    """
    atoms = ensemble.atoms
    kinetic = float(atoms.get_kinetic_energy())
    assert ledger.potential is not None
    return Frame(
        step=step,
        time_fs=time_fs,
        cell=atoms.cell.array.copy(),
        positions=atoms.get_positions(),
        momenta=atoms.get_momenta(),
        forces=forces.copy(),
        potential_energy=ledger.potential,
        kinetic_energy=kinetic,
        conserved_energy=ledger.conserved(kinetic),
        energy_discontinuity=ledger.energy_discontinuity,
        heat=ledger.heat,
        work=ledger.work + ledger.bias,
        barostat=ledger.barostat,
        pressure_GPa=pressure_GPa,
        stage=ensemble.stage,
        temperature_K=ensemble.temperature(),
        source=source,
        labels=labels,
    )

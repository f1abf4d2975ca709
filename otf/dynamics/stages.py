"""Runs in stages, each with its own ensemble, temperature and pressure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from otf.dynamics.bias import AddedForces, Bias, BiasState
from otf.dynamics.ensembles import A, DynamicsState, Ensemble, EnsembleSettings
from otf.dynamics.velocities import remove_motion, thermal_momenta

_SCALING = ("csvr", "nhc", "npt", "npt_full")
_AT_REST = 1e-12  # eV: rounding errors alone move the atoms of a perfect crystal


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes
    ----------
    temperature_end_K, pressure_end_GPa
        Final values of linear ramps that start at those of ``settings``; None for constant ones.
    """

    name: str
    steps: int
    settings: EnsembleSettings
    temperature_end_K: float | None = None
    pressure_end_GPa: float | None = None


class StagedEnsemble:
    """Propagates atoms through a sequence of stages.

    Parameters
    ----------
    atoms, rng
        As for :class:`~otf.dynamics.ensembles.Ensemble`.
    stages
        The stages in order.
    translation, rotation
        Whether to remove centre-of-mass motion and rotation: from the initial velocities, and after
        a Langevin stage, whose noise excites them.
    bias
        Potentials added to the forces; None for no bias.

    Atoms at rest are given thermal velocities at the start of a stage whose thermostat can only
    scale them.
    """

    def __init__(
        self,
        atoms: Atoms,
        stages: Sequence[Stage],
        rng: np.random.Generator,
        *,
        translation: bool = False,
        rotation: bool = False,
        bias: AddedForces | None = None,
    ) -> None:
        self.atoms = atoms
        self.bias: AddedForces = bias or Bias()
        self.stages = tuple(stages)
        self._ends = np.cumsum([stage.steps for stage in stages])
        self.rng = rng
        self.translation, self._rotation = translation, rotation
        self._conserved = remove_motion(atoms, translation=translation, rotation=rotation)
        self.heat = self.barostat = 0.0
        self._enter(0)

    def _enter(self, number: int) -> None:
        self._number = number
        settings = self.stages[number].settings
        self._now = Ensemble(self.atoms, settings, self.rng, conserved=self._conserved)

    @property
    def stage(self) -> int:
        """Index of the current stage."""
        return self._number

    @property
    def steps(self) -> int:
        """Total number of steps of all stages."""
        return int(self._ends[-1])

    def stage_of(self, step: int) -> int:
        """Index of the stage that contains ``step``; the last stage beyond the end.

        A run length changed on resume makes the last stage longer or shorter.
        """
        return min(int(np.searchsorted(self._ends, step, side="right")), len(self.stages) - 1)

    def rest(self, step: int) -> int:
        """Number of steps left in the stage that contains ``step``."""
        return int(self._ends[self.stage_of(step)]) - step

    def step(self, step: int, acting: A, next_acting: Callable[[Atoms], A]) -> A:
        """Propagate from ``step`` to the next; see :meth:`otf.dynamics.ensembles.Ensemble.step`.

        The energies transferred by thermostat and barostat are in ``heat`` and ``barostat``
        afterwards, eV.
        """
        number, removed = self.stage_of(step), 0.0
        if number != self._number:
            before = float(self.atoms.get_kinetic_energy())
            if self.stages[self._number].settings.kind == "langevin":
                remove_motion(self.atoms, translation=self.translation, rotation=self._rotation)
            settings = self.stages[number].settings
            if settings.kind in _SCALING and self.atoms.get_kinetic_energy() < _AT_REST:
                momenta = thermal_momenta(
                    self.atoms, settings.temperature_K, self.rng, translation=self.translation
                )
                self.atoms.set_momenta(momenta)
            removed = before - float(self.atoms.get_kinetic_energy())
            self._enter(number)
        self._set_baths(step)
        after = self._now.step(acting, next_acting)
        self.heat, self.barostat = self._now.heat - removed, self._now.barostat
        return after

    def _set_baths(self, step: int) -> None:
        """Set temperature and pressure of this step if they are ramped."""
        stage = self.stages[self._number]
        first = int(self._ends[self._number]) - stage.steps
        done = min(1.0, (step - first) / max(1, stage.steps - 1))
        start = stage.settings
        if stage.temperature_end_K is not None:
            rise = stage.temperature_end_K - start.temperature_K
            self._now.set_temperature(start.temperature_K + done * rise)
        if stage.pressure_end_GPa is not None:
            rise = stage.pressure_end_GPa - start.pressure_GPa
            self._now.set_pressure(start.pressure_GPa + done * rise)

    def temperature(self) -> float:
        """Kinetic temperature of the unconstrained degrees of freedom, K."""
        return self._now.temperature()

    def capture(self) -> DynamicsState:
        """A copy of the current state."""
        hills, files = self.bias.capture()
        return replace(self._now.capture(), stage=self._number, hills=hills, files=files)

    def restore(self, state: DynamicsState) -> None:
        """Restore a captured state bit by bit."""
        if state.stage != self._number:
            self._enter(state.stage)
        self._now.restore(state)
        self.bias.restore(BiasState(state.hills, state.files))

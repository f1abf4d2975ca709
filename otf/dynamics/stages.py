"""A run in stages, each with its own ensemble, temperature and pressure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from otf.dynamics.ensembles import A, DynamicsState, Ensemble, EnsembleSettings
from otf.dynamics.velocities import remove_motion, thermal_momenta

_SCALING = ("csvr", "nhc", "npt", "npt_full")
_AT_REST = 1e-12  # eV: rounding alone moves the atoms of a perfect crystal


@dataclass(frozen=True)
class Stage:
    """Part of a run.

    Attributes
    ----------
    temperature_end_K, pressure_end_GPa
        Where the baths go in a straight line from what the settings say; None where they stay.
    """

    name: str
    steps: int
    settings: EnsembleSettings
    temperature_end_K: float | None = None
    pressure_end_GPa: float | None = None


class StagedEnsemble:
    """An ensemble that becomes another one where the next stage begins.

    Parameters
    ----------
    atoms, rng
        As for :class:`~otf.dynamics.ensembles.Ensemble`.
    stages
        In their order.
    translation, rotation
        Whether motion of the whole is taken out: of the initial velocities, and after a stage with
        Langevin noise, which drives it.

    Atoms at rest get velocities where a thermostat begins that can only scale them.
    """

    def __init__(
        self,
        atoms: Atoms,
        stages: Sequence[Stage],
        rng: np.random.Generator,
        *,
        translation: bool = False,
        rotation: bool = False,
    ) -> None:
        self.atoms = atoms
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
        """Number of the present stage."""
        return self._number

    @property
    def steps(self) -> int:
        """Of all stages."""
        return int(self._ends[-1])

    def stage_of(self, step: int) -> int:
        """Number of the stage that the step from ``step`` on belongs to; the last one at the end.

        A length that was changed on resume makes the last stage longer or shorter.
        """
        return min(int(np.searchsorted(self._ends, step, side="right")), len(self.stages) - 1)

    def rest(self, step: int) -> int:
        """Steps left in that stage."""
        return int(self._ends[self.stage_of(step)]) - step

    def step(self, step: int, acting: A, next_acting: Callable[[Atoms], A]) -> A:
        """The timestep from ``step`` on; see :meth:`otf.dynamics.ensembles.Ensemble.step`.

        Its heat and what the barostat did are in ``heat`` and ``barostat`` afterwards, eV.
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
        """Temperature and pressure of this step, where they change."""
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
        """Kinetic temperature over the degrees of freedom that hold energy, K."""
        return self._now.temperature()

    def capture(self) -> DynamicsState:
        """The present state, independent of what happens next."""
        return replace(self._now.capture(), stage=self._number)

    def restore(self, state: DynamicsState) -> None:
        """Go back to a captured state, to the last bit."""
        if state.stage != self._number:
            self._enter(state.stage)
        self._now.restore(state)

"""Forces of reversible multiple time steps (r-RESPA) within a segment.

    p += dt/2 [F_fast + w (F - F_fast)],   w = half the steps since the outer step before
                                               and half those to the next; elsewhere w = 0

at both halves of a velocity Verlet step, so that the expensive part of the forces acts as impulses
at the outer steps (Tuckerman, Berne and Martyna, J. Chem. Phys. 97, 1990 (1992)). A segment begins
and ends with an outer step: its end does not depend on how it is continued. Where F - F_fast
changes faster than is usual, as F_fast extrapolates, the next outer step comes sooner.
"""

from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.dynamics.integrators import Acting
from otf.learning.force_model import ForceModel
from otf.model.tensor_energy import Prediction


class MultipleTimeSteps:
    """Predictions of the steps of a segment, in their order.

    Where the model has no baseline with multiple time steps, these are its predictions.

    Parameters
    ----------
    model
        The force model.
    length
        Number of steps of the segment.

    Attributes
    ----------
    largest_change
        Of the slow forces between outer steps so far, root mean square, eV/Angstrom.
    """

    def __init__(self, model: ForceModel, length: int) -> None:
        self._model = model
        stepping = model.baseline.stepping
        self._every = 1 if stepping is None else stepping.every
        self._most_change = np.inf if stepping is None else stepping.most_change
        self._length = length
        self._step = -1
        self._outer, self._block = 0, min(self._every, length)  # the latest outer step, and
        self._slow: _Slow | None = None  # the number of steps from it to the next
        self._impulse: Floats | float = 0.0
        self.largest_change = 0.0

    def predict(self, atoms: Atoms) -> Prediction:
        """The prediction of the next step; the first is that of the start of the segment.

        Between the outer steps the slow part of energy and forces is that of the outer step before,
        to first order in the displacements.
        """
        if self._every == 1:
            return self._model.predict(atoms)
        self._step += 1
        fast = self._model.predict_fast(atoms)
        if self._slow is not None and self._step < self._outer + self._block:
            self._impulse = -self._slow.forces
            return replace(
                fast,
                energy=fast.energy + self._slow.energy_at(atoms.positions),
                forces=fast.forces + self._slow.forces,
            )
        whole = self._model.predict(atoms)
        slow = _Slow(whole.energy - fast.energy, whole.forces - fast.forces, atoms.get_positions())
        before, after = self._blocks(slow)
        # At the ends one half of the kick belongs to another segment.
        weight = 0.5 * (before + after) if before and after else float(before + after)
        self._impulse = (weight - 1.0) * slow.forces
        self._outer, self._block, self._slow = self._step, after, slow
        return whole

    def acting(self, predicted: Acting) -> Acting:
        """What moves the atoms at the latest step, from what was predicted."""
        if self._every == 1:
            return predicted
        return _Kick(predicted.forces + self._impulse, predicted.stress)

    def _blocks(self, slow: "_Slow") -> tuple[int, int]:
        """Steps from the outer step before to this one, and from it to the next."""
        left = self._length - self._step
        if self._slow is None:
            return 0, min(self._every, left)
        block = self._step - self._outer
        change = float(np.sqrt(np.mean((slow.forces - self._slow.forces) ** 2)))
        self.largest_change = max(self.largest_change, change)
        longest = 2 * block
        if change > self._most_change:
            longest = max(1, int(block * self._most_change / change))
        return block, min(self._every, longest, left)


@dataclass(frozen=True, eq=False)
class _Kick:
    """Forces that move the atoms, and the stress."""

    forces: Floats
    stress: Floats | None


class _Slow:
    """Slow part of energy and forces around an outer step."""

    def __init__(self, energy: float, forces: Floats, positions: Floats) -> None:
        self._energy, self.forces, self._positions = energy, forces, positions

    def energy_at(self, positions: Floats) -> float:
        """Energy at displaced positions, eV, to first order."""
        return self._energy - float(np.vdot(self.forces, positions - self._positions))

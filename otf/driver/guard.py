"""The guard: looks at the predicted error and the bonds while the model moves the atoms."""

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.driver.policy import PolicyState, Reason
from otf.driver.records import ForceChecks, Parts
from otf.model.blueprint import steadiness
from otf.model.bond_graph import BondGraph

_FAR_A = 0.5  # displacement since the last look after which the guard looks at once
_ELSEWHERE_A = 0.1  # displacement by which the end of a replay is another structure than its label


class Guard:
    """Ends a segment where the model is too unsure.

    It looks at the predicted error every so many steps, and as soon as an atom has moved far: a
    fast one passes from known to unknown surroundings within a few steps.

    Attributes
    ----------
    force_checks
        Non-self-consistent force checks so far.
    trusted
        Steps of the present replay up to its last look.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._atoms: Atoms = parts.ensemble.atoms
        self._trainer = parts.trainer
        self._policy = parts.policy
        self._bonds = BondGraph()
        self._environments: set[str] = set()  # bonding environments that occur in labels
        self._steady_bonds = steadiness(self._bonds, self._atoms) == 1.0
        self._looked_at: Floats = self._atoms.get_positions()
        self.force_checks = ForceChecks()
        self.trusted = 0

    def begin(self, positions: Floats) -> None:
        """Begin a segment, predicted or replayed, at these positions (N, 3)."""
        self._looked_at, self.trusted = positions, 0

    def see(self, atoms: Atoms) -> None:
        """Register the bonding environments of a label."""
        self._environments.update(self._bonds.classes(atoms))

    def alarm(self, state: PolicyState, step: int, done: int, forces: Floats) -> Reason | None:
        """Reason to take a label after ``done`` steps of a segment, at once, or None.

        Parameters
        ----------
        forces
            (N, 3) that drive the dynamics, eV/Angstrom.
        """
        every = self._policy.guard_every
        if not every or (done % every and not self._has_moved_far()):
            return None
        self._looked_at = self._atoms.get_positions()
        new_bonds = self._has_new_bonds()
        enough = 0.0 if new_bonds else self._policy.guard_level(state)
        worst = self._trainer.worst_error(self._atoms, enough=enough, turn=step // every)
        if new_bonds and self._policy.bond_fires(state, worst):
            return "bond"
        fires = self._policy.guard_fires(state, worst, step=step)
        return "guard" if fires and not self._is_reassured(state, step, forces) else None

    def doubt(self, state: PolicyState, step: int, done: int, length: int) -> Reason | None:
        """Reason to commit a replay only up to the look before this one, or None.

        The regular looks leave out its start, which is committed anyway, and its end, which is
        labelled.
        """
        every = self._policy.guard_every
        if not every:
            return None
        far = self._has_moved_far()
        if not far and (done % every or done > length - every):
            return None
        self._looked_at = self._atoms.get_positions()
        if (far or done >= 2 * every) and self._is_doubtful(state, step):
            return "guard"
        self.trusted = done
        return None

    def doubts_end(self, state: PolicyState, step: int, labelled: Floats) -> bool:
        """Whether the end of a replay is far from its label, and not trusted.

        Parameters
        ----------
        labelled
            (N, 3) positions of the label.
        """
        away = np.abs(self._atoms.positions - labelled).max(initial=0.0)
        if not self._policy.guard_every or away <= _ELSEWHERE_A:
            return False
        return self._is_doubtful(state, step)

    def _is_doubtful(self, state: PolicyState, step: int) -> bool:
        """Whether the predicted error is too large to commit the present structure."""
        # The errors of the latest labels may exceed those predicted; worst_error is not calibrated.
        calibration = max(1.0, self._trainer.force_model.scale.factor)
        level = self._policy.trusted_level(state, step=step) / calibration
        turn = step // self._policy.guard_every
        return not self._trainer.worst_error(self._atoms, enough=level, turn=turn) <= level

    def _has_moved_far(self) -> bool:
        """Whether an atom has moved far since the latest look."""
        moved = np.abs(self._atoms.positions - self._looked_at)
        return bool(moved.max(initial=0.0) > _FAR_A)

    def _has_new_bonds(self) -> bool:
        """Whether an environment occurs that no label has, where bonds survive vibrations."""
        if not self._steady_bonds:
            return False
        return not self._environments.issuperset(self._bonds.classes(self._atoms))

    def _is_reassured(self, state: PolicyState, step: int, forces: Floats) -> bool:
        """Whether the upper bound of a non-self-consistent force check is below the threshold."""
        if not self._parts.force_check:
            return False
        check = self._parts.labeller.check_forces(self._atoms, index=self._trainer.n_labels)
        if check is None:
            return False
        worst = float(np.abs(forces - check.forces).mean(axis=1).max()) + check.within
        spared = not self._policy.guard_fires(state, worst, step=step)
        so_far = self.force_checks
        self.force_checks = ForceChecks(so_far.asked + 1, so_far.spared + spared)
        return spared

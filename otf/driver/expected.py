"""What the model expects of a label, and what speaks against a label that was computed.

The forces and the energy are judged by their own predicted errors, but never more strictly than
by the errors that recent labels have shown. Of 42 000 clean labels of eight systems none was
doubted (docs/background/validation.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.engines.labels import Labels
from otf.learning.learner import Learner
from otf.units import MEV

SENSIBLE = 3
"""Number of labels from which on labels are compared with the model's prediction."""

_DEVIATIONS = 30.0  # predicted errors that a believable force may be off,
_ENERGY_DEVIATIONS = 20.0  # and a believable energy;
_FEW_LABELS = 10  # more where the error of the model is known from fewer labels than these
_USUAL = 4.0  # times the usual largest error of a label,
_LEAST_FORCE = 0.1  # eV/Angstrom; smaller deviations are not of interest
_LEAST_ENERGY = 10.0 * MEV  # per atom
_NOISE_LENGTH = 0.5  # Angstrom: noise of the energy by that of the forces


class Doubts(NamedTuple):
    """What speaks against a label; empty for nothing."""

    forces: str = ""
    energy: str = ""
    net_force: str = ""

    def __str__(self) -> str:
        return " and ".join(doubt for doubt in self if doubt)


@dataclass(frozen=True, eq=False)
class Expected:
    """What a label is expected to be.

    Attributes
    ----------
    energy, energy_bound
        Energy predicted by the model and the largest believable deviation, eV.
    forces, force_bounds
        The same for the forces, (N, 3) eV/Angstrom.
    energy_of
        Energy of a structure by the model, eV.
    most_net_force
        Largest usual net force per atom, eV/Angstrom.
    """

    energy: float
    energy_bound: float
    forces: Floats
    force_bounds: Floats
    energy_of: Callable[[Atoms], float]
    most_net_force: float = float("inf")

    def deviation(self, labels: Labels) -> Floats:
        """Forces of a label (N, 3) minus the expected ones, without their mean, eV/Angstrom.

        A net force is judged by its own measure.
        """
        off = labels.forces - self.forces
        return np.asarray(off - off.mean(axis=0))

    def doubts(self, labels: Labels) -> Doubts:
        """What speaks against a label."""
        off = self.deviation(labels)
        excess = np.abs(off) / self.force_bounds
        forces = energy = net_force = ""
        if excess.max() > 1.0:
            atom, axis = np.unravel_index(np.argmax(excess), excess.shape)
            wrong = int((excess.max(axis=1) > 1.0).sum())
            forces = (
                f"the force on atom {atom} is {labels.forces[atom, axis]:.2f} eV/A along "
                f"{'xyz'[axis]} where the model expects {self.forces[atom, axis]:.2f}"
            )
            if wrong > 1:
                forces += f" ({wrong} atoms are off)"
        if abs(labels.energy - self.energy) > self.energy_bound:
            energy = f"the energy is {labels.energy:.3f} eV where the model expects "
            energy += f"{self.energy:.3f}"
        if labels.net_force > self.most_net_force:
            net_force = (
                f"the forces add up to {labels.net_force:.3f} eV/A per atom, where at most "
                f"{self.most_net_force:.3f} is usual here"
            )
        return Doubts(forces, energy, net_force)


def expected_by(learner: Learner, atoms: Atoms, *, noise: float) -> Expected | None:
    """What a model expects of the label of a structure; None before it has learned enough.

    Parameters
    ----------
    noise
        Mean absolute noise of the forces of a label, eV/Angstrom; 0 if it was not measured.
    """
    if learner.n_labels < SENSIBLE:
        return None
    predicted = learner.predict(atoms)
    scarcity = max(1.0, _FEW_LABELS / learner.n_labels)
    errors = np.hypot(learner.predicted_error(atoms), noise)
    energy_error = np.hypot(learner.energy_error(atoms), _NOISE_LENGTH * noise * len(atoms) ** 0.5)
    return Expected(
        predicted.energy,
        max(_ENERGY_DEVIATIONS * scarcity * float(energy_error), _LEAST_ENERGY * len(atoms)),
        predicted.forces,
        np.maximum(
            _DEVIATIONS * scarcity * errors, max(_USUAL * learner.usual_error, _LEAST_FORCE)
        ),
        lambda other: float(learner.predict(other).energy),
    )

"""Linear equations of the labels for the coefficients of one energy model."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.engines.labels import Labels
from otf.model.dual_equations import DualEquations
from otf.model.equations import Equations
from otf.model.normal_equations import NormalEquations
from otf.model.tensor_energy import TensorEnergy


@dataclass(frozen=True)
class TrainerSettings:
    """Weights of the labels and orders of the model.

    Attributes
    ----------
    energy_noise, force_noise
        Expected misfits, eV and eV/Angstrom; only their ratios and the scale of lambda depend on
        them.
    stress_noise, atomic_energy_noise
        The same for the stress (eV/Angstrom^3) and the atomic energies (eV); None for not learning
        them.
    forgetting
        Weight of the past at each label.
    annealing_labels
        Labels after which forgetting has decayed to 1/e of its strength; None for no decay.
    orders
        Polynomial orders to choose from.
    keep_blocks
        Blocks of labels kept for cross-validation.
    """

    energy_noise: float = 0.01
    force_noise: float = 0.03
    stress_noise: float | None = None
    atomic_energy_noise: float | None = None
    forgetting: float = 1.0
    annealing_labels: float | None = None
    orders: tuple[int, ...] = (1, 2)
    keep_blocks: int = 12

    def forgetting_at(self, n_labels: int) -> float:
        """Weight of the past after a number of labels.

        >>> TrainerSettings(forgetting=0.9, annealing_labels=10.0).forgetting_at(0)
        0.9
        >>> round(TrainerSettings(forgetting=0.9, annealing_labels=10.0).forgetting_at(100), 5)
        1.0
        """
        if self.annealing_labels is None or self.forgetting == 1.0:
            return self.forgetting
        faded = float(np.exp(-n_labels / self.annealing_labels))
        return 1.0 - (1.0 - self.forgetting) * faded


class Taught(NamedTuple):
    """A label with its structure, its time (fs), and the number of its trajectory."""

    atoms: Atoms
    labels: Labels
    time_fs: float
    trajectory: int = 0


@dataclass(frozen=True, eq=False)
class Example:
    """A labelled structure; those of the same block are close in time.

    Audits are learned after a label that is later in time.

    Attributes
    ----------
    labels, whole
        The label without the baseline, and as it was computed.
    """

    atoms: Atoms
    labels: Labels
    whole: Labels
    block: int
    time_fs: float


class Regression:
    """The equations of one energy model, in the cheaper form for the number of their rows.

    Parameters
    ----------
    model
        Energy model that gives the rows.
    settings
        Weights and forgetting.
    """

    def __init__(self, model: TensorEnergy, settings: TrainerSettings) -> None:
        self.model = model
        self.settings = settings
        self.leading = {order: model.leading(order) for order in settings.orders}
        prior = model.prior[: max(self.leading.values())]
        self.equations: Equations = DualEquations(prior, keep_blocks=settings.keep_blocks)

    def add(self, example: Example, reference_energy: float) -> None:
        """Add one label.

        Parameters
        ----------
        reference_energy
            Energy subtracted per atom, eV.
        """
        rows, targets = self.equation(example, reference_energy)
        equations = self.equations
        columns = len(equations.prior)
        if isinstance(equations, DualEquations) and equations.n_unknowns + len(rows) > columns:
            self.equations = _normal(equations)
        self.equations.add(
            rows,
            targets,
            block=example.block,
            forgetting=self.settings.forgetting_at(self.equations.n_snapshots),
        )

    def equation(self, example: Example, reference_energy: float) -> tuple[Floats, Floats]:
        """Rows and targets of one label in units of their expected noise.

        In the order energy, forces, then stress and atomic energies if they are learned. With self
        coupling only the forces: the coefficients determine nothing else.
        """
        atoms, labels = example.atoms, example.labels
        settings, n = self.settings, len(atoms)
        design = self.model.design(atoms)[:, : len(self.equations.prior)]
        rows = [design[1 : 1 + 3 * n] / settings.force_noise]
        targets = [labels.forces.ravel() / settings.force_noise]
        if self.model.coupling == "self":
            return rows[0], targets[0]
        rows.insert(0, design[:1] / settings.energy_noise)
        energy = labels.energy - n * reference_energy
        targets.insert(0, np.array([energy / settings.energy_noise]))
        if labels.level:  # a row of zeros: the energy of another electronic state
            rows[0], targets[0] = np.zeros_like(rows[0]), np.zeros(1)
        if settings.stress_noise is not None and labels.stress is not None:
            scale = 1.0 / (atoms.get_volume() * settings.stress_noise)
            rows.append(design[1 + 3 * n :] * scale)
            targets.append(labels.stress.ravel() / settings.stress_noise)
        if settings.atomic_energy_noise is not None and labels.atomic_energies is not None:
            atomic = self.model.atomic_rows(atoms)[:, : len(self.equations.prior)]
            rows.append(atomic / settings.atomic_energy_noise)
            energies = labels.atomic_energies - reference_energy
            targets.append(energies / settings.atomic_energy_noise)
        return np.concatenate(rows), np.concatenate(targets)


def _normal(dual: DualEquations) -> NormalEquations:
    """The normal equations of the same rows."""
    normal, weight = NormalEquations(dual.prior, keep_blocks=dual.keep_blocks), 1.0
    for s in dual.snapshots:
        normal.add(s.rows, s.targets, block=s.block, forgetting=weight / s.weight)
        weight = s.weight
    return normal

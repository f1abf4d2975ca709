"""Orbital energies along an accelerated trajectory, by matrices learned from those of the labels.

What is learned is tested where the truth is known: at the latest labels, by a model that does not
know them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.analysis.blocks import Estimate, block_estimate
from otf.analysis.curves import Curves
from otf.analysis.series import series
from otf.arrays import Floats
from otf.driver.directory import RunDirectory
from otf.electrons.guesses import describe
from otf.electrons.levels import Levels, levels_of
from otf.electrons.matrix_model import MatrixModel
from otf.errors import RunError
from otf.io.frames import Frames
from otf.io.matrices import LabelMatrices, read_matrices
from otf.model.one_thread import in_one_thread

_NAMES = ("hamiltonian", "overlap")
_TESTED = 0.2  # of the labels
_FEWEST = 5
_POINTS_A_WIDTH = 0.25


@dataclass(frozen=True, eq=False)
class LearnedLevels:
    """Orbital energies of any structure of a run.

    Attributes
    ----------
    model
        Knows all labels.
    electrons, kpoints
        As the labels have them.
    gap_error
        Mean absolute error of the gap at labels a like model did not know, eV.
    level_error
        The same of levels with electrons.
    """

    model: MatrixModel
    electrons: float
    kpoints: Floats | None
    gap_error: float
    level_error: float

    def of(self, atoms: Atoms) -> Levels:
        """Orbital energies of a structure."""
        found = self.model.predict(atoms)
        try:
            return levels_of(found["hamiltonian"], found["overlap"], self.electrons, self.kpoints)
        except ValueError as error:
            raise RunError(
                f"orbital energies by matrices of {self.model.n_labels} labels: {error}; more "
                "labels are needed"
            ) from error

    def in_words(self) -> str:
        """What to bear in mind."""
        return (
            f"by matrices learned from {self.model.n_labels} labels; at labels left out the gap "
            f"was off by {1e3 * self.gap_error:.1f} meV, occupied levels by "
            f"{1e3 * self.level_error:.1f} meV"
        )


@in_one_thread
def learn_levels(path: Path) -> LearnedLevels:
    """What the labels of a run tell.

    Raises
    ------
    RunError
        If their matrices were not kept, or are too few.
    FileError
        If one of them is damaged.
    """
    labels = [read_matrices(f) for f in sorted(RunDirectory(path).matrices.glob("*.h5"))]
    labels = [label for label in labels if label.matrices.basis == labels[-1].matrices.basis]
    if len(labels) < _FEWEST:
        raise RunError(
            f"{path}: has the matrices of {len(labels)} labels, and {_FEWEST} are needed; they are "
            "kept by engines that learn them (engine.warm_start: auto or learned)"
        )
    known = len(labels) - max(1, round(_TESTED * len(labels)))
    one = labels[0].matrices
    trial = LearnedLevels(_learned(labels[:known]), one.electrons, one.kpoints, 0.0, 0.0)
    gaps, levels = [], []
    for label in labels[known:]:
        m = label.matrices
        truth = levels_of(m.hamiltonian, m.overlap, m.electrons, m.kpoints)
        found = trial.of(label.atoms)
        gaps.append(abs(found.gap - truth.gap))
        levels.append(np.abs(found.energies - truth.energies)[: truth.occupied].mean())
    return replace(
        trial,
        model=_learned(labels),
        gap_error=float(np.mean(gaps)),
        level_error=float(np.mean(levels)),
    )


def _learned(labels: Sequence[LabelMatrices]) -> MatrixModel:
    one = labels[0].matrices.hamiltonian
    model = MatrixModel(one.shells, _NAMES, describe(one))
    for label in labels:
        model.learn(label.atoms, {name: getattr(label.matrices, name) for name in _NAMES})
    return model


@in_one_thread
def gap(paths: Sequence[Path], runs: Sequence[Frames]) -> Curves:
    """The gap of every frame, and its mean."""
    notes, out = [], []
    for path, frames in zip(paths, runs, strict=True):
        learned = learn_levels(path)
        values = [learned.of(frames.structure(k)).gap for k in range(len(frames))]
        out.append(replace(frames, series={"gap_eV": np.array(values)}))
        notes.append(f"{path}: {learned.in_words()}")
    return replace(series(out, ["gap_eV"]), title="gap", notes=tuple(notes))


@in_one_thread
def level_density(
    paths: Sequence[Path],
    runs: Sequence[Frames],
    *,
    width_eV: float,
    below_eV: float,
    above_eV: float,
) -> Curves:
    """Levels per eV, a mean over the frames, around the mean energy of the highest occupied one."""
    notes, found = [], []
    for path, frames in zip(paths, runs, strict=True):
        learned = learn_levels(path)
        found += [learned.of(frames.structure(k)) for k in range(len(frames))]
        notes.append(f"{path}: {learned.in_words()}")
    highest = float(np.mean([f.energies[f.occupied - 1] for f in found]))
    grid = np.arange(-below_eV, above_eV, _POINTS_A_WIDTH * width_eV)
    samples = np.array([f.density(grid + highest, width_eV) for f in found])
    return Curves(
        "density of states",
        "energy_eV",
        grid,
        {"levels_per_eV": block_estimate(samples)},
        {"highest_occupied_eV": Estimate(np.array(highest), np.array(np.nan))},
        tuple(notes),
    )

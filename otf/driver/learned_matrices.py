"""Matrices of any structure of a run, learned from those of its labels.

What is learned is tested where the truth is known: at the latest labels, by a model that does not
know them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.driver.directory import RunDirectory
from otf.electrons import bloch, density_matrix
from otf.electrons.guesses import describe
from otf.electrons.levels import Levels, levels_of
from otf.electrons.matrix_model import MatrixModel
from otf.errors import RunError
from otf.io.matrices import LabelMatrices, read_matrices
from otf.orbitals import BlockMatrix, Matrices

_NAMES = ("hamiltonian", "overlap")
_TESTED = 0.2  # of the labels
_FEWEST = 5


@dataclass(frozen=True, eq=False)
class LearnedMatrices:
    """Matrices of any structure.

    Attributes
    ----------
    model
        Of Hamiltonian and overlap.
    like
        Matrices of one label: electrons and k points are the same for all.
    """

    model: MatrixModel
    like: Matrices

    def levels(self, atoms: Atoms) -> Levels:
        """Orbital energies of a structure."""
        found = self.model.predict(atoms)
        try:
            return levels_of(
                found["hamiltonian"], found["overlap"], self.like.electrons, self.like.kpoints
            )
        except ValueError as error:
            raise self._too_few(error) from error

    def bands(self, atoms: Atoms, kpoints: Floats) -> Floats:
        """Orbital energies (K, orbitals) at these k points, eV."""
        found = self.model.predict(atoms)
        try:
            return bloch.bands(found["hamiltonian"], found["overlap"], kpoints)
        except ValueError as error:
            raise self._too_few(error) from error

    def density(self, atoms: Atoms) -> tuple[BlockMatrix, BlockMatrix]:
        """Density matrix and overlap of a structure."""
        found = self.model.predict(atoms)
        hamiltonian, overlap = found["hamiltonian"], found["overlap"]
        like = self.like
        try:
            if like.kpoints is not None:
                density = bloch.density_of(
                    hamiltonian, overlap, like.electrons, like.kpoints, like.smearing_eV
                )
                return density, overlap
            dense = density_matrix.of_hamiltonian(
                hamiltonian.dense(), overlap.dense(), like.electrons
            )
        except ValueError as error:
            raise self._too_few(error) from error
        numbers, shells = hamiltonian.numbers, hamiltonian.shells
        return BlockMatrix.of_dense(numbers, shells, dense), overlap

    def _too_few(self, error: ValueError) -> RunError:
        return RunError(
            f"matrices learned from {self.model.n_labels} labels: {error}; more labels are needed"
        )


@dataclass(frozen=True, eq=False)
class LearnedFromRun:
    """What the labels of a run tell.

    Attributes
    ----------
    learned
        From all labels.
    trial, left_out
        From all but these, to tell how far off it is.
    """

    learned: LearnedMatrices
    trial: LearnedMatrices
    left_out: tuple[LabelMatrices, ...]

    def error(self, of: Callable[[LearnedMatrices, LabelMatrices], float]) -> float:
        """Mean over the labels left out of how far off something is."""
        return float(np.mean([of(self.trial, label) for label in self.left_out]))

    def in_words(self, errors: str) -> str:
        """What to bear in mind, with how far off it was."""
        return f"by matrices learned from {self.learned.model.n_labels} labels; {errors}"


def learn_from(path: Path) -> LearnedFromRun:
    """What the labels of a run tell.

    Raises
    ------
    RunError
        If their matrices were not kept, or are too few.
    FileError
        If one of them is damaged.
    """
    labels = [read_matrices(f) for f in sorted(RunDirectory(path).matrices.glob("[0-9]*.h5"))]
    labels = [label for label in labels if label.matrices.basis == labels[-1].matrices.basis]
    if len(labels) < _FEWEST:
        raise RunError(
            f"{path}: has the matrices of {len(labels)} labels, and {_FEWEST} are needed; they are "
            "kept by engines that learn them (engine.warm_start: auto or learned)"
        )
    known = len(labels) - max(1, round(_TESTED * len(labels)))
    trial = _learned(labels[:known])
    return LearnedFromRun(_learned(labels), trial, tuple(labels[known:]))


def _learned(labels: Sequence[LabelMatrices]) -> LearnedMatrices:
    one = labels[0].matrices
    model = MatrixModel(one.hamiltonian.shells, _NAMES, describe(one.hamiltonian))
    for label in labels:
        model.learn(label.atoms, {name: getattr(label.matrices, name) for name in _NAMES})
    return LearnedMatrices(model, one)

"""Matrices of any structure of a run, learned from those of its labels.

Errors are measured at the latest labels, with a model that has not learned them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.electrons import bloch, density_matrix
from otf.electrons.density.overlap import Overlaps
from otf.electrons.density.through_matrix import OrbitalValues
from otf.electrons.density_guesses import describe
from otf.electrons.levels import Levels, levels_of
from otf.electrons.matrix_model import MatrixModel
from otf.errors import FileError, RunError
from otf.io.matrices import LabelMatrices, read_matrices
from otf.io.orbitals import read_orbitals
from otf.orbitals.block_matrices import BlockMatrix, Matrices
from otf.runs.directory import RunDirectory

_SAME = 1e-3  # overlaps; programs take them from their own tables
_TESTED = 0.2  # of the labels
_FEWEST = 5


@dataclass(frozen=True, eq=False)
class LearnedMatrices:
    """Predicted matrices of any structure.

    Attributes
    ----------
    model
        Model of the Hamiltonian, and of the overlap if radial functions are not available.
    like
        Matrices of one label: electrons and k points are the same for all.
    overlaps
        Overlaps from the radial functions, if available.
    """

    model: MatrixModel
    like: Matrices
    overlaps: Overlaps | None = None

    def levels(self, atoms: Atoms) -> Levels:
        """Orbital energies of a structure."""
        hamiltonian, overlap = self._matrices(atoms)
        try:
            return levels_of(hamiltonian, overlap, self.like.electrons, self.like.kpoints)
        except ValueError as error:
            raise self._too_few(error) from error

    def bands(self, atoms: Atoms, kpoints: Floats) -> Floats:
        """Orbital energies (K, orbitals) at these k points, eV."""
        hamiltonian, overlap = self._matrices(atoms)
        try:
            return bloch.bands(hamiltonian, overlap, kpoints)
        except ValueError as error:
            raise self._too_few(error) from error

    def density(self, atoms: Atoms) -> tuple[BlockMatrix, BlockMatrix]:
        """Density matrix and overlap of a structure."""
        hamiltonian, overlap = self._matrices(atoms)
        like = self.like
        try:
            if like.kpoints is not None:
                density = bloch.density_of(
                    hamiltonian,
                    overlap,
                    like.electrons,
                    like.kpoints,
                    like.smearing_eV,
                    methfessel_paxton=like.methfessel_paxton,
                )
                return density, overlap
            dense = density_matrix.of_hamiltonian(
                hamiltonian.dense(), overlap.dense(), like.electrons
            )
        except ValueError as error:
            raise self._too_few(error) from error
        numbers, shells = hamiltonian.numbers, hamiltonian.shells
        return BlockMatrix.of_dense(numbers, shells, dense), overlap

    def _matrices(self, atoms: Atoms) -> tuple[BlockMatrix, BlockMatrix]:
        """Hamiltonian and overlap of a structure."""
        found = self.model.predict(atoms)
        hamiltonian = found["hamiltonian"]
        if self.overlaps is None:
            return hamiltonian, found["overlap"]
        return hamiltonian, self.overlaps.of(atoms, hamiltonian.pairs)

    def _too_few(self, error: ValueError) -> RunError:
        return RunError(
            f"matrices learned from {self.model.n_labels} labels: {error}; more labels are needed"
        )


@dataclass(frozen=True, eq=False)
class LearnedFromRun:
    """Matrices learned from the labels of a run, with a test set.

    Attributes
    ----------
    learned
        Learned from all labels.
    trial, left_out
        Learned from all labels but these, to measure errors.
    """

    learned: LearnedMatrices
    trial: LearnedMatrices
    left_out: tuple[LabelMatrices, ...]

    def error(self, of: Callable[[LearnedMatrices, LabelMatrices], float]) -> float:
        """Mean left-out error of a quantity."""
        return float(np.mean([of(self.trial, label) for label in self.left_out]))

    def in_words(self, errors: str) -> str:
        """Note on the source of the matrices, with their errors."""
        return f"from matrices learned from {self.learned.model.n_labels} labels; {errors}"


def learn_from(path: Path) -> LearnedFromRun:
    """Learn the matrices of the labels of a run.

    Raises
    ------
    RunError
        If their matrices were not kept, or are too few.
    FileError
        If one of them is damaged.
    """
    labels = labels_of(path)
    known = len(labels) - of_which_tested(len(labels))
    overlaps = _overlaps(RunDirectory(path).orbitals, labels[-1])
    trial = _learned(labels[:known], overlaps)
    return LearnedFromRun(_learned(labels, overlaps), trial, tuple(labels[known:]))


def labels_of(path: Path) -> list[LabelMatrices]:
    """The labels of a run whose matrices were kept, of the latest basis.

    Raises
    ------
    RunError
        If there are too few.
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
    return labels


def of_which_tested(count: int) -> int:
    """Number of labels out of ``count`` that are left out to measure errors."""
    return max(1, round(_TESTED * count))


def known_orbitals(path: Path, label: LabelMatrices) -> OrbitalValues:
    """Orbitals of a run as functions in space.

    Raises
    ------
    FileError
        If the engine did not report them.
    """
    file = RunDirectory(path).orbitals
    if not file.exists():
        raise FileError(f"{file}: is missing; the engine did not report its radial functions")
    functions = read_orbitals(file, label.matrices.basis)
    return OrbitalValues(label.matrices.density.shells, functions)


def _overlaps(path: Path, label: LabelMatrices) -> Overlaps | None:
    """Overlaps from the radial functions; None if these are missing or do not fit the label."""
    if not path.exists():
        return None
    known = label.matrices.overlap
    found = Overlaps(known.shells, read_orbitals(path, label.matrices.basis))
    off = np.abs(found.of(label.atoms, known.pairs).values - known.values).max()
    return found if off < _SAME else None


def _learned(labels: Sequence[LabelMatrices], overlaps: Overlaps | None) -> LearnedMatrices:
    one = labels[0].matrices
    names = ("hamiltonian", "overlap") if overlaps is None else ("hamiltonian",)
    model = MatrixModel(one.hamiltonian.shells, names, describe(one.hamiltonian))
    for label in labels:
        model.learn(label.atoms, {name: getattr(label.matrices, name) for name in names})
    return LearnedMatrices(model, one, overlaps)

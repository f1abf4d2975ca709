"""Matrices of any structure, learned from the labels of a run or read from a file of a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.electrons.density.overlap import Overlaps
from otf.electrons.density.through_matrix import OrbitalValues
from otf.electrons.density_guesses import describe
from otf.electrons.filling import Filling, counts_of
from otf.electrons.learned_matrices import (
    ElectronicStructure,
    LearnedMatrices,
    errors_of_atoms,
)
from otf.electrons.matrix_features import Description
from otf.electrons.matrix_model import MatrixModel
from otf.errors import FileError, RunError
from otf.io.frames import Frames
from otf.io.matrices import LabelMatrices, read_matrices
from otf.io.orbitals import read_orbitals
from otf.model.one_thread import in_one_thread
from otf.orbitals.block_matrices import BlockMatrix, RadialFunctions
from otf.postprocess.electronic.model_file import StoredModel, read_model
from otf.runs.directory import RunDirectory

_SAME = 1e-3  # overlaps; programs take them from their own tables
_TESTED = 0.2  # of the labels
_FEWEST = 5
_LOOKED_AT = 3  # frames whose expected errors are computed
_DEVIATIONS = 2.0  # standard deviations said as the bound on an error


@dataclass(frozen=True, eq=False)
class Quantity:
    """A property of a structure, with what its errors are.

    Attributes
    ----------
    words
        What the error is of, for a note.
    of
        Its values from learned matrices.
    true
        Its values from the matrices of a label.
    error
        Error of values, given the true ones and the structure.
    said
        The error as a text with its unit.
    """

    words: str
    of: Callable[[ElectronicStructure], Floats]
    true: Callable[[LabelMatrices], Floats]
    error: Callable[[Floats, Floats, Atoms], float]
    said: Callable[[float], str]


class MatrixSource(Protocol):
    """Where the matrices of structures come from."""

    @property
    def filling(self) -> Filling:
        """Electrons and k points of structures."""
        ...

    def of(self, atoms: Atoms) -> ElectronicStructure:
        """The electronic structure of atoms.

        Raises
        ------
        RunError
            If it cannot be computed; the message states why.
        """
        ...

    def note(self, frames: Frames, *quantities: Quantity) -> str:
        """Origin of the matrices, with the errors of quantities."""
        ...

    def orbitals(self) -> OrbitalValues:
        """Orbitals as functions in space.

        Raises
        ------
        FileError
            If they are not known.
        """
        ...


@dataclass(frozen=True, eq=False)
class LearnedFromRun:
    """Matrices learned from the labels of a run, with a test set.

    Attributes
    ----------
    path
        The run.
    learned
        Learned from all labels.
    trial, left_out
        Learned from all labels but these, to measure errors.
    """

    path: Path
    learned: LearnedMatrices
    trial: LearnedMatrices
    left_out: tuple[LabelMatrices, ...]

    @property
    def filling(self) -> Filling:
        """See :class:`MatrixSource`."""
        return self.learned.filling

    def of(self, atoms: Atoms) -> ElectronicStructure:
        """See :class:`MatrixSource`."""
        return self.learned.of(atoms)

    def note(self, frames: Frames, *quantities: Quantity) -> str:
        """See :class:`MatrixSource`; errors are the means of the labels left out.

        They are unknown if the other labels do not reach any of them.
        """
        errors: list[list[float]] = [[] for _ in quantities]
        for label in self.left_out:
            try:
                found = self.trial.of(label.atoms)
            except RunError:  # its atoms are farther apart than those of the other labels
                continue
            for quantity, each in zip(quantities, errors, strict=True):
                each.append(quantity.error(quantity.of(found), quantity.true(label), label.atoms))
        return (
            f"from matrices learned from {self.learned.n_labels} labels; left-out error "
            + in_words(quantities, [float(np.mean(each or np.nan)) for each in errors])
            + _k_points_in_words(self.learned, frames)
        )

    def orbitals(self) -> OrbitalValues:
        """See :class:`MatrixSource`."""
        return known_orbitals(self.path, self.left_out[-1])


@dataclass(frozen=True, eq=False)
class LearnedFromFile:
    """Matrices from a file of a model, applied to structures it may not know.

    Attributes
    ----------
    path
        The file.
    stored
        Its content.
    """

    path: Path
    stored: StoredModel

    @property
    def learned(self) -> LearnedMatrices:
        """Matrices of any structure."""
        return self.stored.ensemble.mean

    @property
    def filling(self) -> Filling:
        """See :class:`MatrixSource`."""
        return self.learned.filling

    def of(self, atoms: Atoms) -> ElectronicStructure:
        """See :class:`MatrixSource`."""
        return self.learned.of(atoms)

    def note(self, frames: Frames, *quantities: Quantity) -> str:
        """See :class:`MatrixSource`; errors are those expected at some of the frames."""
        squares: list[list[float]] = [[] for _ in quantities]
        of_atoms = np.zeros(len(frames.atoms))
        for k in np.unique(np.linspace(0, len(frames) - 1, _LOOKED_AT).astype(int)):
            mean, samples = self.stored.ensemble.of(frames.structure(int(k)))
            of_atoms = np.maximum(of_atoms, errors_of_atoms(mean, samples))
            for quantity, each in zip(quantities, squares, strict=True):
                values = quantity.of(mean)
                each += [quantity.error(quantity.of(s), values, mean.atoms) ** 2 for s in samples]
        bounds = [_DEVIATIONS * float(np.sqrt(np.mean(each))) for each in squares]
        return (
            f"from {self.path}, {self.learned.n_labels} labels; expected error (two standard "
            f"deviations) {in_words(quantities, bounds)}"
            + _k_points_in_words(self.learned, frames)
            + self._matrix_elements(frames.atoms, of_atoms)
        )

    def _matrix_elements(self, atoms: Atoms, errors: Floats) -> str:
        """Expected errors of matrix elements, with the atom whose ones are the largest."""
        worst = int(errors.argmax())
        text = (
            f"; of matrix elements: {1e3 * float(np.median(errors)):.1f} meV root mean square, "
            f"{1e3 * float(errors[worst]):.1f} at atom {worst} ({atoms.symbols[worst]}), and "
            f"{self.stored.left_out_meV:.1f} where left out"
        )
        if self.stored.shortest_A is not None:
            text += (
                f"; learned in a cell of {self.stored.shortest_A:.2f} A, in which atoms see their "
                "own images"
            )
        return text

    def orbitals(self) -> OrbitalValues:
        """See :class:`MatrixSource`."""
        if self.stored.orbitals is None:
            raise FileError(
                f"{self.path}: has no radial functions of the orbitals, which the density needs; "
                "learn it from runs or folders that have them"
            )
        shells = self.learned.predictor.features.shells
        return OrbitalValues(shells, self.stored.orbitals)


def in_words(quantities: Sequence[Quantity], errors: Sequence[float]) -> str:
    """Errors of quantities; those that are not finite are unknown."""
    return ", ".join(
        f"of {quantity.words}: {quantity.said(error) if np.isfinite(error) else 'unknown'}"
        for quantity, error in zip(quantities, errors, strict=True)
    )


def _k_points_in_words(learned: LearnedMatrices, frames: Frames) -> str:
    """The grid of k points of a trajectory; empty for molecules."""
    kpoints = learned.filling.kpoints(frames.atoms)
    if kpoints is None:
        return ""
    return "; {}x{}x{} k points".format(*counts_of(kpoints))


def sources_of(
    paths: Sequence[Path], model: Path | None, grid: tuple[int, int, int] | None
) -> list[MatrixSource]:
    """Matrices for the structures of each path.

    Parameters
    ----------
    paths
        Run directories; with a model, or any files of structures.
    model
        File of a model.
    grid
        K points for crystals; None for those of the labels.

    Raises
    ------
    RunError
        If there are too few labels with matrices.
    FileError
        If a file is damaged.
    """
    if model is None:
        return [learn_from(path) for path in paths]
    stored = read_model(model)
    return [LearnedFromFile(model, stored if grid is None else stored.with_grid(grid))] * len(paths)


@in_one_thread
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
    like = labels[-1].matrices
    filling = replace(
        Filling.of([(label.atoms, label.matrices) for label in labels]), fixed=like.kpoints
    )
    functions = orbitals_of(path, labels[-1])
    overlaps = overlaps_of(functions, labels[-1])
    trial, learned = (
        model_of(some, overlaps, describe(like.hamiltonian)) for some in (labels[:known], labels)
    )
    return LearnedFromRun(
        path,
        LearnedMatrices(learned.fitted(), filling, learned.n_labels, overlaps),
        LearnedMatrices(trial.fitted(), filling, trial.n_labels, overlaps),
        tuple(labels[known:]),
    )


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
            "kept by engines that learn them (engine.warm_start: auto or learned). Compute those "
            f"that are missing by `otf electrons fetch {path}`, or give a model of other runs: "
            "--model h.h5, from `otf electrons learn`"
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
    functions = orbitals_of(path, label)
    if functions is None:
        file = RunDirectory(path).orbitals
        raise FileError(f"{file}: is missing; the engine did not report its radial functions")
    return OrbitalValues(label.matrices.density.shells, functions)


def orbitals_of(path: Path, label: LabelMatrices) -> dict[int, RadialFunctions] | None:
    """Radial functions of a run; None if the engine did not report them."""
    file = RunDirectory(path).orbitals
    return read_orbitals(file, label.matrices.basis) if file.exists() else None


def overlaps_of(
    functions: Mapping[int, RadialFunctions] | None, label: LabelMatrices
) -> Overlaps | None:
    """Overlaps from radial functions; None if these are missing or do not fit the label."""
    if functions is None:
        return None
    known = label.matrices.overlap
    found = Overlaps(known.shells, functions)
    off = np.abs(found.of(label.atoms, known.pairs).values - known.values).max()
    return found if off < _SAME else None


def model_of(
    labels: Sequence[LabelMatrices], overlaps: Overlaps | None, description: Description
) -> MatrixModel:
    """Model of the Hamiltonian, and of the overlap if it is not known otherwise."""
    model = MatrixModel(labels[0].matrices.hamiltonian.shells, names_of(overlaps), description)
    for label in labels:
        model.learn(label.atoms, blocks_of(label, model.names))
    return model


def names_of(overlaps: Overlaps | None) -> tuple[str, ...]:
    """Names of the matrices to learn."""
    return ("hamiltonian", "overlap") if overlaps is None else ("hamiltonian",)


def blocks_of(label: LabelMatrices, names: Sequence[str]) -> dict[str, BlockMatrix]:
    """Matrices of a label by name."""
    return {name: getattr(label.matrices, name) for name in names}

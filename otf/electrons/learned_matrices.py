"""Electronic structure of any structure from learned matrices."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from otf.arrays import Floats
from otf.electrons import bloch, density_matrix
from otf.electrons.density.overlap import Overlaps
from otf.electrons.environment import vectors_of
from otf.electrons.filling import Filling
from otf.electrons.fitted_matrices import FittedMatrices, stacked
from otf.electrons.levels import Levels, levels_of
from otf.electrons.mulliken import mulliken_charges
from otf.errors import RunError
from otf.orbitals.block_matrices import BlockMatrix, Pairs

_NO_OVERLAP = 1e-3  # orbitals that overlap less do not interact
_FAR_A = 4.5  # nor those of atoms farther apart, where overlaps are not known


@dataclass(frozen=True, eq=False)
class ElectronicStructure:
    """Levels, bands, density and charges of one structure.

    Attributes
    ----------
    atoms
        The structure.
    hamiltonian, overlap
        Its matrices; eV.
    filling
        Its electrons and k points.
    n_labels
        Number of labels the matrices were learned from.
    """

    atoms: Atoms
    hamiltonian: BlockMatrix
    overlap: BlockMatrix
    filling: Filling
    n_labels: int

    @cached_property
    def levels(self) -> Levels:
        """Orbital energies."""
        filling = self.filling
        try:
            return levels_of(
                self.hamiltonian,
                self.overlap,
                filling.electrons(self.atoms),
                filling.kpoints(self.atoms),
                smearing_eV=filling.smearing_eV,
                methfessel_paxton=filling.methfessel_paxton,
            )
        except ValueError as error:
            raise self._too_few(error) from error

    def bands(self, kpoints: Floats) -> Floats:
        """Orbital energies (K, orbitals) at these k points, eV."""
        try:
            return bloch.bands(self.hamiltonian, self.overlap, kpoints)
        except ValueError as error:
            raise self._too_few(error) from error

    @cached_property
    def density(self) -> BlockMatrix:
        """Density matrix."""
        filling = self.filling
        electrons, kpoints = filling.electrons(self.atoms), filling.kpoints(self.atoms)
        try:
            if kpoints is not None:
                return bloch.density_of(
                    self.hamiltonian,
                    self.overlap,
                    electrons,
                    kpoints,
                    filling.smearing_eV,
                    methfessel_paxton=filling.methfessel_paxton,
                )
            dense = density_matrix.of_hamiltonian(
                self.hamiltonian.dense(), self.overlap.dense(), electrons
            )
        except ValueError as error:
            raise self._too_few(error) from error
        return BlockMatrix.of_dense(self.hamiltonian.numbers, self.hamiltonian.shells, dense)

    def charges(self) -> Floats:
        """Mulliken charges (N,), in elementary charges."""
        return mulliken_charges(self.density, self.overlap, self.filling.cores(self.atoms))

    def _too_few(self, error: ValueError) -> RunError:
        return RunError(
            f"matrices learned from {self.n_labels} labels: {error}; more labels are needed"
        )


@dataclass(frozen=True, eq=False)
class LearnedMatrices:
    """Electronic structure of any structure.

    Attributes
    ----------
    predictor
        Predictor of the Hamiltonian, and of the overlap if radial functions are not available.
    filling
        Electrons and k points of a structure.
    n_labels
        Number of labels learned.
    overlaps
        Overlaps from the radial functions, if available.
    """

    predictor: FittedMatrices
    filling: Filling
    n_labels: int
    overlaps: Overlaps | None = None

    def of(self, atoms: Atoms) -> ElectronicStructure:
        """The electronic structure of atoms.

        Raises
        ------
        RunError
            If they have an element or a distance that was not learned.
        """
        return self.of_each([self.predictor], atoms)[0]

    def of_each(
        self, predictors: Sequence[FittedMatrices], atoms: Atoms
    ) -> list[ElectronicStructure]:
        """The electronic structure of atoms by each of several predictors of equal features."""
        self.filling.electrons(atoms)  # complains about unknown elements
        found = stacked(predictors).predict(atoms)
        pairs, exact = next(iter(found.values())).pairs, None
        if self.overlaps is not None:
            exact = self.overlaps.of(atoms, pairs)
        self._check_distances(atoms, pairs, exact)
        return [
            ElectronicStructure(
                atoms,
                found[f"hamiltonian {k}"],
                found[f"overlap {k}"] if exact is None else exact,
                self.filling,
                self.n_labels,
            )
            for k in range(len(predictors))
        ]

    def _check_distances(self, atoms: Atoms, pairs: Pairs, overlap: BlockMatrix | None) -> None:
        """Raise if atoms that interact are farther apart than any in the training data."""
        missing = self.predictor.unlearned(atoms, pairs)
        lengths = np.linalg.norm(vectors_of(atoms, pairs.first, pairs.second, pairs.shifts), axis=1)
        if overlap is None:
            missing &= lengths < _FAR_A
        else:
            missing &= np.maximum.reduceat(np.abs(overlap.values), overlap.starts) > _NO_OVERLAP
        if not missing.any():
            return
        worst = np.flatnonzero(missing)[lengths[missing].argmin()]
        numbers = sorted(atoms.numbers[[pairs.first[worst], pairs.second[worst]]].tolist())
        one, other = (chemical_symbols[z] for z in numbers)
        seen = self.predictor.longest.get((numbers[0], numbers[1]), 0.0)
        raise RunError(
            f"{one} and {other} are {lengths[worst]:.2f} A apart in the structure, and "
            + (f"at most {seen:.2f} A" if seen else "never within reach of each other")
            + " in the learned ones: learn larger ones, or more molecules together"
        )


@dataclass(frozen=True, eq=False)
class MatrixEnsemble:
    """Learned matrices, and random ones from their posterior distribution.

    Attributes
    ----------
    mean
        The most probable matrices.
    samples
        Random predictors; their differences from the mean are the expected errors.
    """

    mean: LearnedMatrices
    samples: Sequence[FittedMatrices]

    def of(self, atoms: Atoms) -> tuple[ElectronicStructure, list[ElectronicStructure]]:
        """The most probable electronic structure of atoms, and random ones."""
        mean, *samples = self.mean.of_each([self.mean.predictor, *self.samples], atoms)
        return mean, samples


def errors_of_atoms(mean: ElectronicStructure, samples: Sequence[ElectronicStructure]) -> Floats:
    """Expected error (N,) of the elements of the Hamiltonian in the rows of each atom, eV."""
    known = mean.hamiltonian
    squares = np.mean([(s.hamiltonian.values - known.values) ** 2 for s in samples], axis=0)
    widths = known.widths
    sizes = widths[known.pairs.first] * widths[known.pairs.second]
    # Most blocks of distant atoms are zero: only those count that are not.
    filled = np.maximum.reduceat(np.abs(known.values), known.starts) > 0.0
    total, count = (
        np.bincount(known.pairs.first, values * filled, minlength=len(mean.atoms))
        for values in (np.add.reduceat(squares, known.starts), sizes)
    )
    return np.asarray(np.sqrt(total / np.maximum(count, 1)))

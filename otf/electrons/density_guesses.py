"""Density matrices to start a label from, made of what earlier labels ended with."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.electrons import bloch, density_matrix
from otf.electrons.bond_features import BondFeatures
from otf.electrons.matrix_model import Description, MatrixModel
from otf.model.one_thread import in_one_thread
from otf.orbitals.block_matrices import BlockMatrix, Matrices

PREVIOUS = "previous density matrix"
EXTRAPOLATED = "extrapolated density matrix"
PURIFIED = "learned density matrix"
DIAGONALISED = "learned Hamiltonian"
MEAN = "mean of both learned"
LEARNED = (PURIFIED, DIAGONALISED, MEAN)
_HISTORY = 8
_FEWEST = 2  # labels before anything but the previous one is worth a try
_NAMES = ("hamiltonian", "overlap", "density")
_WEIGHTS = 6  # of bonds that have about as many features as weight 0
_MOST_BYTES = 1_000_000_000  # of all equations with their solutions
_LEAST_BUDGET = 2


class DensityGuesses:
    """Learns the matrices of labels, and guesses the density matrix of the next."""

    def __init__(self) -> None:
        self.n_labels = 0
        self._model: MatrixModel | None = None
        self._latest: deque[tuple[Atoms, Matrices]] = deque(maxlen=_HISTORY)

    @property
    def basis(self) -> str:
        """Of the matrices that are known, empty without any."""
        return self._latest[-1][1].basis if self._latest else ""

    @in_one_thread
    def learn(self, atoms: Atoms, matrices: Matrices) -> None:
        """Take in what a label ended with; one of another basis makes all before it forgotten."""
        if self._latest and self._latest[-1][1].basis != matrices.basis:
            self._model, self.n_labels = None, 0
            self._latest.clear()
        if self._model is None:
            self._model = MatrixModel(
                matrices.hamiltonian.shells, _NAMES, describe(matrices.hamiltonian)
            )
        self._model.learn(atoms, {name: getattr(matrices, name) for name in _NAMES})
        self._latest.append((atoms, matrices))
        self.n_labels += 1

    @in_one_thread
    def of(self, atoms: Atoms) -> dict[str, BlockMatrix]:
        """Density matrices by what they were made of.

        Empty before there are labels. What is learned misses something at the latest label, which
        is added; the learned density matrix is purified, the learned Hamiltonian diagonalised. Of
        crystals only the latter: a density matrix reaches further than its grid of k points tells.
        """
        if self._model is None:
            return {}
        before, known = self._latest[-1]
        guesses = {PREVIOUS: known.density}
        if self.n_labels < _FEWEST:
            return guesses
        pairs = known.hamiltonian.pairs
        now, then = self._model.predict(atoms, pairs), self._model.predict(before, pairs)
        corrected = [
            now[name].with_values(
                now[name].values + getattr(known, name).on(pairs).values - then[name].values
            )
            for name in _NAMES
        ]
        made = self._of_molecule if known.kpoints is None else self._of_crystal
        try:
            return guesses | made(corrected, known)
        except ValueError:  # two labels far apart: the learned overlap is no overlap yet
            return guesses

    def _of_crystal(
        self, matrices: Sequence[BlockMatrix], known: Matrices
    ) -> dict[str, BlockMatrix]:
        """Density matrices made of learned matrices, in the order of their names."""
        assert known.kpoints is not None
        hamiltonian, overlap, _ = matrices
        density = bloch.density_of(
            hamiltonian, overlap, known.electrons, known.kpoints, known.smearing_eV
        )
        return {DIAGONALISED: density}

    def _of_molecule(
        self, matrices: Sequence[BlockMatrix], known: Matrices
    ) -> dict[str, BlockMatrix]:
        """The same, where all orbitals are full or empty."""
        hamiltonian, overlap, density = (matrix.dense() for matrix in matrices)
        found: dict[str, Floats] = {}
        found[PURIFIED] = density_matrix.purified(density, overlap)
        found[DIAGONALISED] = density_matrix.of_hamiltonian(hamiltonian, overlap, known.electrons)
        found[MEAN] = 0.5 * (found[PURIFIED] + found[DIAGONALISED])
        found[EXTRAPOLATED] = density_matrix.extrapolated(
            [m.overlap.dense() for _, m in self._latest],
            [m.density.dense() for _, m in self._latest],
            overlap,
        )
        return {
            name: BlockMatrix.of_dense(known.density.numbers, known.density.shells, p)
            for name, p in found.items()
            if _counts(p, overlap, known.electrons)
        }


def describe(matrix: BlockMatrix) -> Description:
    """A description fine enough for the orbitals of a matrix, and no larger than can be solved."""
    highest = max(max(degrees) for degrees in matrix.shells.values())
    n_species, usual = len(matrix.shells), Description()
    described = replace(
        usual,
        l_max=max(3, 2 * highest),
        site_budget={1: 8, 2: 8, 3: 6}.get(n_species, 5),
    )
    # Bonds of crystals have more around them.
    for budget in range(5 if matrix.pairs.shifts.any() else 4, _LEAST_BUDGET, -1):
        features = len(
            BondFeatures(
                usual.bond.count, n_species, usual.around.count, described.l_max, budget
            ).degrees(0)
        )
        problems = _WEIGHTS * n_species * (n_species + 1) // 2
        if 16 * problems * features**2 < _MOST_BYTES:
            return replace(described, bond_budget=budget)
    return replace(described, bond_budget=_LEAST_BUDGET)


def _counts(density: Floats, overlap: Floats, electrons: float) -> bool:
    """Whether a density matrix has its electrons, or nearly."""
    return bool(abs(np.vdot(density, overlap) - electrons) < 0.01 * electrons)

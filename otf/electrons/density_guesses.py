"""Initial density guesses for labels, from the converged matrices of earlier labels."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.electrons import bloch, density_matrix
from otf.electrons.bond_features import BondFeatures
from otf.electrons.matrix_features import Description
from otf.electrons.matrix_model import MatrixModel
from otf.model.one_thread import in_one_thread
from otf.orbitals.block_matrices import BlockMatrix, Matrices

PREVIOUS = "previous density matrix"
EXTRAPOLATED = "extrapolated density matrix"
PURIFIED = "learned density matrix"
DIAGONALISED = "learned Hamiltonian"
MEAN = "mean of both learned"
LEARNED = (PURIFIED, DIAGONALISED, MEAN)
_HISTORY = 8
_FEWEST = 2  # labels before models are used besides the previous density matrix
_NAMES = ("hamiltonian", "overlap", "density")
_WEIGHTS = 6  # number of weights with about as many features as weight 0
_MOST_BYTES = 1_000_000_000  # of all equations and their solutions
_LEAST_BUDGET = 2


class DensityGuesses:
    """Model of the matrices of labels that provides initial density guesses."""

    def __init__(self) -> None:
        self.n_labels = 0
        self._model: MatrixModel | None = None
        self._latest: deque[tuple[Atoms, Matrices]] = deque(maxlen=_HISTORY)

    @property
    def basis(self) -> str:
        """Basis of the matrices learned; empty if there are none."""
        return self._latest[-1][1].basis if self._latest else ""

    @in_one_thread
    def learn(self, atoms: Atoms, matrices: Matrices) -> None:
        """Add the converged matrices of a label; a change of basis discards all earlier ones."""
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
        """Initial density guesses by method; empty before the first label.

        Predicted matrices are corrected by their error at the latest label. The predicted density
        matrix is purified, the predicted Hamiltonian diagonalised. For crystals only the latter:
        the range of a density matrix exceeds what the grid of k points resolves.
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
        except ValueError:  # labels far apart: the predicted overlap is not positive definite
            return guesses

    def _of_crystal(
        self, matrices: Sequence[BlockMatrix], known: Matrices
    ) -> dict[str, BlockMatrix]:
        """Density matrix from predicted matrices, which are in the order of ``_NAMES``."""
        assert known.kpoints is not None
        hamiltonian, overlap, _ = matrices
        density = bloch.density_of(
            hamiltonian,
            overlap,
            known.electrons,
            known.kpoints,
            known.smearing_eV,
            methfessel_paxton=known.methfessel_paxton,
        )
        return {DIAGONALISED: density}

    def _of_molecule(
        self, matrices: Sequence[BlockMatrix], known: Matrices
    ) -> dict[str, BlockMatrix]:
        """The same for a molecule, with doubly occupied or empty orbitals."""
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
    """Description for the orbitals of a matrix, limited by the memory of the solve."""
    highest = max(max(degrees) for degrees in matrix.shells.values())
    n_species, usual = len(matrix.shells), Description()
    described = replace(
        usual,
        l_max=max(3, 2 * highest),
        site_budget={1: 8, 2: 8, 3: 6}.get(n_species, 5),
    )
    # Bonds in crystals have more neighbours.
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
    """Whether a density matrix has the right number of electrons within 1 %."""
    return bool(abs(np.vdot(density, overlap) - electrons) < 0.01 * electrons)

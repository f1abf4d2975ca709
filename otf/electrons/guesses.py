"""Density matrices to start a label from, made of what earlier labels ended with."""

from collections import deque
from dataclasses import replace

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.electrons import density_matrix
from otf.electrons.matrix_model import Description, MatrixModel
from otf.model.one_thread import in_one_thread
from otf.orbitals import BlockMatrix, Matrices

PREVIOUS = "previous density matrix"
EXTRAPOLATED = "extrapolated density matrix"
PURIFIED = "learned density matrix"
DIAGONALISED = "learned Hamiltonian"
MEAN = "mean of both learned"
LEARNED = (PURIFIED, DIAGONALISED, MEAN)
_HISTORY = 8
_FEWEST = 2  # labels before anything but the previous one is worth a try
_NAMES = ("hamiltonian", "overlap", "density")


class Guesses:
    """Learns the matrices of labels, and guesses the density matrix of the next.

    The matrices of molecules, and of crystals with the centre of the Brillouin zone alone.
    """

    def __init__(self) -> None:
        self.n_labels = 0
        self._model: MatrixModel | None = None
        self._latest: deque[tuple[Atoms, Matrices]] = deque(maxlen=_HISTORY)

    @in_one_thread
    def learn(self, atoms: Atoms, matrices: Matrices) -> None:
        """Take in what a label ended with."""
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
        is added; the learned density matrix is purified, the learned Hamiltonian diagonalised.
        """
        if self._model is None:
            return {}
        before, known = self._latest[-1]
        guesses = {PREVIOUS: known.density}
        if self.n_labels < _FEWEST:
            return guesses
        pairs = known.hamiltonian.pairs
        now, then = self._model.predict(atoms, pairs), self._model.predict(before, pairs)
        hamiltonian, overlap, density = (
            now[name]
            .with_values(now[name].values + getattr(known, name).values - then[name].values)
            .dense()
            for name in _NAMES
        )
        found: dict[str, Floats] = {}
        try:
            found[PURIFIED] = density_matrix.purified(density, overlap)
            found[DIAGONALISED] = density_matrix.of_hamiltonian(
                hamiltonian, overlap, known.electrons
            )
            found[MEAN] = 0.5 * (found[PURIFIED] + found[DIAGONALISED])
            found[EXTRAPOLATED] = density_matrix.extrapolated(
                [m.overlap.dense() for _, m in self._latest],
                [m.density.dense() for _, m in self._latest],
                overlap,
            )
        except ValueError:  # two labels far apart: the learned overlap is no overlap yet
            return guesses
        sensible = {name: p for name, p in found.items() if _counts(p, overlap, known.electrons)}
        return guesses | {
            name: BlockMatrix.of_dense(known.density.numbers, known.density.shells, p)
            for name, p in sensible.items()
        }


def describe(matrix: BlockMatrix) -> Description:
    """A description fine enough for the orbitals of a matrix."""
    highest = max(max(degrees) for degrees in matrix.shells.values())
    return replace(Description(), l_max=max(3, 2 * highest))


def _counts(density: Floats, overlap: Floats, electrons: float) -> bool:
    """Whether a density matrix has its electrons, or nearly."""
    return bool(abs(np.vdot(density, overlap) - electrons) < 0.01 * electrons)

"""Linear equivariant models of matrices in a basis of orbitals, updated label by label."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.electrons.fitted_matrices import FittedMatrices
from otf.electrons.matrix_features import Description, Mask, MatrixFeatures, Problem
from otf.electrons.ridge import RidgeProblem
from otf.orbitals.block_matrices import BlockMatrix, Pairs, Shells

_LATER = 1.5  # factor of the number of labels after which priors are chosen anew
_MOST_TESTED = 200  # rows of a problem and structure: bounds the memory


@dataclass(eq=False)
class MatrixModel:
    """Model of matrices in one basis.

    Blocks that are all zero are not used for training.

    Parameters
    ----------
    shells
        Shells of each species.
    names
        Names of the matrices, which are fitted together.
    description
        Sizes of the features.
    """

    shells: Shells
    names: Sequence[str]
    description: Description = field(default_factory=Description)
    n_labels: int = 0
    _problems: dict[Problem, RidgeProblem] = field(default_factory=dict)
    _longest: dict[tuple[int, int], float] = field(default_factory=dict)
    _farthest: dict[tuple[int, int], float] = field(default_factory=dict)
    _choose_at: float = 1.0

    def __post_init__(self) -> None:
        self._features = MatrixFeatures(self.shells, self.description)

    def pairs(self, atoms: Atoms) -> Pairs:
        """Sites, and bonds up to the bond cutoff."""
        return self._features.pairs(atoms)

    def learn(self, atoms: Atoms, matrices: Mapping[str, BlockMatrix]) -> None:
        """Add the matrices of one structure, all with the same blocks, to the training data."""
        ours = [matrices[name] for name in self.names]
        sites, bonds = self._features.described(atoms, ours[0].pairs, _not_zero(ours))
        for bond in bonds:
            longest = max(self._longest.get(bond.species, 0.0), float(bond.lengths.max()))
            self._longest[bond.species] = longest
        for species, lengths in self._features.lengths(atoms, self.pairs(atoms)).items():
            self._farthest[species] = max(self._farthest.get(species, 0.0), float(lengths[-1]))
        for key, rows, targets in self._features.equations(sites, bonds, ours):
            if key not in self._problems:
                self._problems[key] = RidgeProblem(
                    self._features.degrees(key), len(self.names), finer=self.description.finer
                )
            self._problems[key].add(rows, targets, self.n_labels)
        self.n_labels += 1
        if self.n_labels >= self._choose_at:
            self._choose_at = _LATER * self.n_labels
            for problem in self._problems.values():
                problem.choose()

    def predict(self, atoms: Atoms, pairs: Pairs | None = None) -> dict[str, BlockMatrix]:
        """See :meth:`otf.electrons.fitted_matrices.FittedMatrices.predict`."""
        return self.fitted().predict(atoms, pairs)

    def fitted(self) -> FittedMatrices:
        """The predictor learned so far."""
        return self._with({key: problem.coefficients for key, problem in self._problems.items()})

    def calibration(
        self, labels: Iterable[tuple[Atoms, Mapping[str, BlockMatrix]]]
    ) -> dict[Problem, Floats]:
        """Ratios (matrices,) of true to expected errors at unseen labels, by problem."""
        seen: dict[Problem, list[tuple[Floats, Floats]]] = {}
        for atoms, matrices in labels:
            ours = [matrices[name] for name in self.names]
            described = self._features.described(atoms, ours[0].pairs, _not_zero(ours))
            for key, rows, targets in self._features.equations(*described, ours):
                some = np.unique(np.linspace(0, len(rows) - 1, _MOST_TESTED).astype(np.int64))
                seen.setdefault(key, []).append((rows[some], targets[some]))
        ratios = {}
        for key, tested in seen.items():
            if key in self._problems:
                rows = np.concatenate([rows for rows, _ in tested])
                targets = np.concatenate([targets for _, targets in tested])
                ratios[key] = self._problems[key].calibration(rows, targets)
        return ratios

    def samples(self, count: int, calibration: Mapping[Problem, Floats]) -> list[FittedMatrices]:
        """Random predictors from the posterior distribution, the same at each call.

        Parameters
        ----------
        calibration
            Factors of the expected errors from :meth:`calibration`; where larger than one, errors
            are multiplied by them.
        """
        rng = np.random.default_rng(0)
        drawn: list[dict[Problem, Floats]] = [{} for _ in range(count)]
        for key, problem in self._problems.items():
            ratios = calibration.get(key, np.ones(len(self.names)))
            for found, sample in zip(drawn, problem.samples(count, ratios, rng), strict=True):
                found[key] = sample
        return [self._with(coefficients) for coefficients in drawn]

    def _with(self, coefficients: Mapping[Problem, Floats]) -> FittedMatrices:
        return FittedMatrices(
            self._features, self.names, coefficients, dict(self._longest), dict(self._farthest)
        )


def _not_zero(matrices: Sequence[BlockMatrix]) -> Mask:
    """(P,) whether a block is non-zero in any of the matrices."""
    starts = matrices[0].starts
    mask: Mask = np.any(
        [np.maximum.reduceat(np.abs(matrix.values), starts) > 0.0 for matrix in matrices], axis=0
    )
    return mask

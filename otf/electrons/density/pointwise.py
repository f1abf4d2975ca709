r"""Pointwise model of the electron density, linear in features of atomic environments.

.. math:: \rho(r) = \sum_i \sum_{nlm} c_{nlm}(i)\, \phi_{nlm}(r - r_i), \qquad
          c_{nlm}(i) = \sum_k w_{Z_i n l k}\, F_{klm}(i)

with the functions of :mod:`.local_functions` and the equivariant features of
:mod:`otf.electrons.site_features`, so that the density rotates with the structure. Spherical
functions independent of the environment describe isolated atoms. All w follow from one solve.

Source: Zepeda-Nunez et al., J. Comput. Phys. 443, 110523 (2021), for a density as a sum of local
contributions of atomic environments (there by a neural network).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms

from otf.arrays import Floats, Ints
from otf.electrons.density.local_functions import LocalFunctions
from otf.electrons.density.samples import Sample
from otf.electrons.environment import Reach, moments
from otf.electrons.ridge import ridge_solution
from otf.electrons.site_features import SiteFeatures
from otf.model.normal_equations import NormalEquations
from otf.orbitals.periodic_images import images_near

_STRENGTH = 1e-13  # of the prior, relative to the diagonal of the equations
_ROWS = 1024  # per batch: bounds the memory
_MOST_BYTES = 700_000_000  # of the equations and their solution
_WORTH = {4: 40, 3: 10, 2: 0}  # fewest densities for which each budget pays
_MOST_OFF = 0.02  # larger errors come from undersampled cores: not rescaled
_COPIES = 3  # of the matrix held during a solve


@dataclass(frozen=True)
class PointDescription:
    """Basis functions and features of a density model.

    Attributes
    ----------
    functions
        Basis functions around each atom.
    varying
        Number of spherical functions whose coefficients depend on the environment; those of the
        others are the same for all atoms of an element.
    around
        Radial functions of the moments of the environment.
    budget
        See :class:`SiteFeatures`.
    finer
        Factor of the prior for each degree of a feature. Structures in larger cells than the
        learned ones need a larger one: their atoms move more independently.
    """

    functions: LocalFunctions = field(
        default_factory=lambda: LocalFunctions((20, 10, 8, 6, 4), 3.5)
    )
    varying: int = 12
    around: Reach = field(default_factory=lambda: Reach(3, 0.4, 4.0))
    budget: int = 4
    finer: float = 10.0


class LearnedDensity:
    """Predicted density of one structure, non-negative.

    Parameters
    ----------
    atoms
        The structure.
    functions, coefficients
        Basis functions around each atom, and their coefficients (N, functions).
    electrons
        Number of electrons to normalise to; None if unknown.
    """

    def __init__(
        self,
        atoms: Atoms,
        functions: LocalFunctions,
        coefficients: Floats,
        electrons: float | None,
    ) -> None:
        self._atoms = atoms
        self._functions = functions
        counted = float((coefficients[:, : functions.counts[0]] @ functions.integrals()).sum())
        self.off = 0.0 if electrons is None else counted / electrons - 1.0
        """Relative error of the number of electrons before normalisation."""
        trusted = abs(self.off) < _MOST_OFF
        self._coefficients = coefficients / (1.0 + self.off) if trusted else coefficients
        self._reach = np.full(len(atoms), functions.cutoff)

    def at(self, points: Floats) -> Floats:
        """Electrons per cubic Angstrom at points (P, 3), which should be near each other."""
        out = np.zeros(len(points))
        near = images_near(self._atoms, self._reach, points)
        self._functions.add_to(out, points, near.positions, self._coefficients[near.atoms])
        return np.maximum(out, 0.0)


class DensityModel:
    """Density model trained one structure at a time, in bounded memory.

    Parameters
    ----------
    species
        Atomic numbers.
    description
        Basis functions and features, see :func:`describe_points`.
    """

    def __init__(self, species: Sequence[int], description: PointDescription) -> None:
        self.species = tuple(sorted(species))
        self.description = description
        d, highest = self.description, len(self.description.functions.counts) - 1
        self._features = SiteFeatures(len(self.species), d.around.count, highest, d.budget)
        self._degrees = _degrees(d, self._features)
        self._width = len(self._degrees)
        self._equations = NormalEquations(np.ones(self._width * len(self.species)), keep_blocks=0)
        self._coefficients: Floats | None = None
        self.n_labels = 0
        self._compositions: list[Ints] = []
        self._electrons: list[float] = []

    def learn(self, atoms: Atoms, sample: Sample) -> None:
        """Add sampled points of the density of one structure to the training data."""
        features = self._of_sites(atoms)
        for start in range(0, len(sample.points), _ROWS):
            part = slice(start, start + _ROWS)
            scale = np.sqrt(sample.weights[part])
            rows = self._rows(atoms, features, sample.points[part])
            self._equations.add(
                rows * scale[:, None], sample.values[part] * scale, block=self.n_labels
            )
        self.n_labels += 1
        if sample.electrons is not None:
            self._compositions.append(self._composition(atoms))
            self._electrons.append(sample.electrons)
        self._coefficients = None

    def density(self, atoms: Atoms) -> LearnedDensity:
        """Predict the density of a structure.

        It is normalised to the number of electrons fitted to the composition.

        Raises
        ------
        ValueError
            If it has an element without training data, or there are no training data.
        """
        strange = set(atoms.numbers.tolist()) - set(self.species)
        if strange or not self.n_labels:
            raise ValueError(f"no density of elements {sorted(strange)} was learned")
        if self._coefficients is None:
            degrees = np.tile(self._degrees, len(self.species))
            self._coefficients = ridge_solution(
                self._equations, degrees, strength=_STRENGTH, finer=self.description.finer
            )
        d, features = self.description, self._of_sites(atoms)
        weights = self._coefficients.reshape(len(self.species), self._width)
        out = np.zeros((len(atoms), d.functions.size))
        for k, z in enumerate(self.species):
            mine = np.flatnonzero(atoms.numbers == z)
            out[mine] = self._coefficients_of(weights[k], [f[mine] for f in features])
        return LearnedDensity(atoms, d.functions, out, self._electrons_of(atoms))

    def _electrons_of(self, atoms: Atoms) -> float | None:
        """Number of electrons by composition; None if unknown for all samples."""
        if not self._electrons:
            return None
        each = np.linalg.lstsq(np.array(self._compositions), self._electrons, rcond=None)[0]
        return float(self._composition(atoms) @ each)

    def _coefficients_of(self, weights: Floats, features: Sequence[Floats]) -> Floats:
        """Coefficients (B, functions) of atoms of one species."""
        d = self.description
        first = d.functions.counts[0]
        out, at = [], first
        for degree, of_degree in enumerate(features):
            n, width = self._varying(degree), of_degree.shape[2]
            shared = weights[at : at + n * width].reshape(n, width)
            at += n * width
            part = np.einsum("nf,bmf->bnm", shared, of_degree, optimize=True)
            if degree == 0:
                part = np.pad(part, ((0, 0), (0, first - n), (0, 0)))
                part += weights[:first, None]
            out.append(part.reshape(len(part), -1))
        return np.concatenate(out, axis=1)

    def _rows(self, atoms: Atoms, features: Sequence[Floats], points: Floats) -> Floats:
        """Design matrix (P, coefficients) of the density at points."""
        functions = self.description.functions
        first = functions.counts[0]
        rows = np.zeros((len(points), len(self.species), self._width))
        near = images_near(atoms, np.full(len(atoms), functions.cutoff), points)
        kinds = np.searchsorted(self.species, atoms.numbers)
        for atom, place in zip(near.atoms, near.positions, strict=True):
            vectors = points - place
            inside = np.flatnonzero(np.linalg.norm(vectors, axis=1) < functions.cutoff)
            values = functions.values(vectors[inside])
            mine = [values[0][:, :, 0]]
            for degree, of_degree in enumerate(features):
                parts = values[degree][:, : self._varying(degree)] @ of_degree[atom]
                mine.append(parts.reshape(len(inside), parts.shape[1] * parts.shape[2]))
            rows[inside, kinds[atom], :first] += mine[0]
            rows[inside, kinds[atom], first:] += np.concatenate(mine[1:], axis=1)
        return rows.reshape(len(points), -1)

    def _of_sites(self, atoms: Atoms) -> list[Floats]:
        """Features (N, 2l + 1, count) of each degree, without the constant."""
        d, highest = self.description, len(self.description.functions.counts) - 1
        around = moments(atoms, self.species, d.around, highest)
        found = [self._features.of(around, (degree, 1)) for degree in range(highest + 1)]
        return [found[0][:, :, 1:], *found[1:]]

    def _varying(self, degree: int) -> int:
        """Number of radial functions of a degree that depend on the environment."""
        return self.description.functions.counts[degree] if degree else self.description.varying

    def _composition(self, atoms: Atoms) -> Ints:
        return np.array([int((atoms.numbers == z).sum()) for z in self.species])


def describe_points(n_species: int, n_densities: int) -> PointDescription:
    """Choose the finest description that the number of densities and the memory allow.

    It is coarser for more elements.
    """
    finest = next(budget for budget, fewest in _WORTH.items() if n_densities >= fewest)
    usual = PointDescription(budget=finest)
    finest_first = [
        replace(
            usual, functions=LocalFunctions(counts, 3.5), varying=varying, around=reach, budget=b
        )
        for counts, varying in (((20, 10, 8, 6, 4), 12), ((20, 8, 6, 4), 8), ((20, 6, 4), 6))
        for reach in (usual.around, replace(usual.around, count=2), replace(usual.around, count=1))
        for b in range(usual.budget, 0, -1)
    ]
    for described in finest_first:
        highest = len(described.functions.counts) - 1
        features = SiteFeatures(n_species, described.around.count, highest, described.budget)
        columns = n_species * len(_degrees(described, features))
        if _COPIES * 8 * columns**2 < _MOST_BYTES:
            break
    return described


def _degrees(description: PointDescription, features: SiteFeatures) -> Ints:
    """Degree of the feature of each coefficient of a species."""
    counts = description.functions.counts
    out = [np.zeros(counts[0], dtype=np.int64)]
    for degree, count in enumerate(counts):
        of_features = features.degrees((degree, 1))[1 if degree == 0 else 0 :]
        out.append(np.tile(of_features, count if degree else description.varying))
    return np.concatenate(out)

"""Densities of any structure of a run, learned point by point from reference densities.

Reference densities come from the density matrices of the run's labels, or from files of any origin.
The latest ones are compared with the model before it learns them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from otf.arrays import Floats
from otf.electrons.density.pointwise import DensityModel, describe_points
from otf.electrons.density.quadrature import quadrature
from otf.electrons.density.samples import (
    Sample,
    relative_errors,
    sample_of_grid,
    sample_of_points,
)
from otf.electrons.density.through_matrix import DensityOfMatrix, OrbitalValues, density_on
from otf.electrons.environment import shortest_period
from otf.errors import RunError
from otf.io.matrices import LabelMatrices
from otf.io.volumes import read_density
from otf.model.workers import available_cores
from otf.orbitals.grids import Grid, grid_of
from otf.postprocess.electronic.learned_matrices import known_orbitals, labels_of, of_which_tested

_POINTS = 2500  # drawn from each density
_SPACING_A = 0.15  # of grids of crystals to learn from
_FEWEST = 2
_FINER_IN_LARGER_CELLS = 100.0  # measured for Al: see docs/results/densities.md
_LARGER = 1.05


@dataclass(frozen=True, eq=False)
class KnownDensity:
    """Reference density of one structure.

    Attributes
    ----------
    name
        Origin of the density.
    atoms
        The structure.
    sample
        Draws points within a distance of atoms (Angstrom), with a seed.
    error
        Errors of a model's density: L1 and L2.
    """

    name: str
    atoms: Atoms
    sample: Callable[[float, int], Sample]
    error: Callable[[DensityModel], tuple[float, float]]


@dataclass(frozen=True, eq=False)
class LearnedPoints:
    """A density model, and its errors at the latest densities before they were learned.

    Attributes
    ----------
    l1, l2
        See :func:`~otf.electrons.density.samples.relative_errors`.
    shorter_A
        Shortest period of the learned cells if that of the structures is longer, else None.
    """

    model: DensityModel
    l1: float
    l2: float
    shorter_A: float | None = None

    def in_words(self) -> str:
        """Note on the source of the densities, with their errors."""
        text = (
            f"point by point, learned from {self.model.n_labels} densities; errors at the latest "
            f"ones, left out: {100 * self.l1:.3f} % (L1), {100 * self.l2:.3f} % (L2)"
        )
        if self.shorter_A is None:
            return text
        return (
            f"{text}. They were learned in a cell of {self.shorter_A:.2f} A, in which images move "
            "together: errors in a larger cell are larger"
        )


def learn_points(path: Path, files: Sequence[Path], atoms: Atoms) -> LearnedPoints:
    """Learn densities point by point.

    Parameters
    ----------
    path
        A run directory.
    files
        Densities to learn from instead of those of the run's labels.
    atoms
        A structure of the run.

    Raises
    ------
    RunError
        If there are too few, or of other elements.
    FileError
        If one of them cannot be read.
    """
    count, known = _of_files(files) if files else _of_labels(path)
    tested = of_which_tested(count)
    if count - tested < _FEWEST:
        raise RunError(f"{count} densities are too few to learn from: give more")
    species = sorted(set(atoms.numbers.tolist()))
    description = describe_points(len(species), count)
    learned, shorter = shortest_period(known(0).atoms), None
    if learned * _LARGER < shortest_period(atoms) < np.inf:
        shorter = learned
        description = replace(description, finer=_FINER_IN_LARGER_CELLS)
    model = DensityModel(species, description)
    errors = []
    for index in range(count):
        density = known(index)
        strange = set(density.atoms.numbers.tolist()) - set(model.species)
        if strange:
            raise RunError(
                f"{density.name}: has {', '.join(chemical_symbols[z] for z in sorted(strange))}, "
                "which the run does not have; leave it out"
            )
        if index >= count - tested:
            errors.append(density.error(model))
        reach = model.description.functions.cutoff
        model.learn(density.atoms, density.sample(reach, index))
    l1, l2 = np.mean(errors, axis=0)
    return LearnedPoints(model, float(l1), float(l2), shorter)


def _of_files(files: Sequence[Path]) -> tuple[int, Callable[[int], KnownDensity]]:
    def known(index: int) -> KnownDensity:
        atoms, grid, values = read_density(files[index])
        # Cube files do not state periodicity; a molecule may extend beyond its box.
        atoms.set_cell(grid.steps * np.array(grid.shape)[:, None])
        atoms.pbc = True
        return _on_grid(str(files[index]), atoms, grid, values)

    return len(files), known


def _of_labels(path: Path) -> tuple[int, Callable[[int], KnownDensity]]:
    labels = labels_of(path)
    orbitals = known_orbitals(path, labels[0])

    def known(index: int) -> KnownDensity:
        label = labels[index]
        if not label.atoms.pbc.any():
            return _of_molecule(f"label {index}", label, orbitals)
        grid = grid_of(label.atoms, _SPACING_A)
        values = density_on(label.matrices.density, orbitals, label.atoms, grid)
        return _on_grid(f"label {index}", label.atoms, grid, values, label.matrices.electrons)

    return len(labels), known


def _on_grid(
    name: str, atoms: Atoms, grid: Grid, values: Floats, electrons: float | None = None
) -> KnownDensity:
    def sample(reach: float, seed: int) -> Sample:
        return sample_of_grid(
            atoms, grid, values, reach=reach, count=_POINTS, seed=seed, electrons=electrons
        )

    def error(model: DensityModel) -> tuple[float, float]:
        found = grid.sampled(model.density(atoms).at, threads=available_cores())
        return relative_errors(found, values, grid.volume)

    return KnownDensity(name, atoms, sample, error)


def _of_molecule(name: str, label: LabelMatrices, orbitals: OrbitalValues) -> KnownDensity:
    """Reference density of a molecule with its cores, which grids do not resolve."""
    atoms, matrices = label.atoms, label.matrices
    points, volumes = quadrature(atoms)
    values = DensityOfMatrix(atoms, matrices.density, orbitals).at(points)

    def sample(reach: float, seed: int) -> Sample:
        return sample_of_points(
            atoms, points, volumes, values,
            reach=reach, count=_POINTS, seed=seed, electrons=matrices.electrons,
        )  # fmt: skip

    def error(model: DensityModel) -> tuple[float, float]:
        learned = model.density(atoms)
        parts = np.array_split(points, max(1, len(points) // _POINTS))
        found: Floats = np.concatenate([learned.at(part) for part in parts])
        return relative_errors(found, values, volumes)

    return KnownDensity(name, atoms, sample, error)

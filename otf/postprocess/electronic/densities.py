"""Electron densities and dipoles along an accelerated trajectory, from learned density matrices."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms

from otf.analysis.curves import Curves
from otf.analysis.series import series
from otf.arrays import Floats
from otf.electrons.density.quadrature import quadrature
from otf.electrons.density.samples import relative_errors
from otf.electrons.density.through_matrix import DensityOfMatrix, OrbitalValues, density_on
from otf.errors import RunError
from otf.io.frames import Frames
from otf.io.matrices import LabelMatrices
from otf.io.volumes import write_cube, write_volume
from otf.model.one_thread import in_one_thread
from otf.model.workers import available_cores
from otf.orbitals.block_matrices import BlockMatrix
from otf.orbitals.grids import Grid, grid_of
from otf.postprocess.electronic.learned_matrices import (
    LearnedFromRun,
    LearnedMatrices,
    known_orbitals,
    learn_from,
)
from otf.postprocess.electronic.point_densities import learn_points
from otf.units import DEBYE

_WRITERS: dict[str, Callable[[Path, Atoms, Grid, Floats], None]] = {
    ".cube": write_cube,
    ".h5": write_volume,
}


Route = Literal["dm", "points"]
"""Whether densities are learned through density matrices, or point by point."""


@dataclass(frozen=True, eq=False)
class _Source:
    """A source of densities, and a note on its accuracy."""

    density: Callable[[Atoms, Grid], Floats]
    note: str


def densities(
    paths: Sequence[Path],
    runs: Sequence[Frames],
    *,
    spacing_A: float,
    volume: Path,
    route: Route = "dm",
    files: Sequence[Path] = (),
) -> Curves:
    """Write the density of every frame on a grid, and return its number of electrons.

    Parameters
    ----------
    volume
        A ``.cube`` or ``.h5`` file; with several frames, a number is added to each name.
    route
        Through density matrices, or point by point.
    files
        Densities to learn from point by point, instead of those of the run's labels.

    Raises
    ------
    RunError
        If densities cannot be computed; the message states why.
    """
    write = _WRITERS.get(volume.suffix)
    if write is None:
        raise RunError(f"{volume}: densities are written as {' or '.join(_WRITERS)}")
    notes, out = [], []
    written: list[Path] = []
    total = sum(len(frames) for frames in runs)
    for path, frames in zip(paths, runs, strict=True):
        if route == "points":
            source = _by_points(path, files, frames.structure(0))
        else:
            source = _by_matrices(path, spacing_A)
        electrons = np.empty(len(frames))
        for k in range(len(frames)):
            atoms = frames.structure(k)
            grid = _grid(atoms, spacing_A)
            values = source.density(atoms, grid)
            electrons[k] = values.sum() * grid.volume
            name = volume.stem if total == 1 else f"{volume.stem}_{len(written):06d}"
            written.append(volume.with_name(name + volume.suffix))
            write(written[-1], atoms, grid, values)
        out.append(replace(frames, series={"electrons_on_grid": electrons}))
        notes.append(f"{path}: {source.note}")
    notes.append(f"written: {written[0]}" + (f" to {written[-1].name}" if total > 1 else ""))
    return replace(series(out, ["electrons_on_grid"]), title="density", notes=tuple(notes))


def _by_points(path: Path, files: Sequence[Path], atoms: Atoms) -> _Source:
    learned = learn_points(path, files, atoms)

    def density(atoms: Atoms, grid: Grid) -> Floats:
        return grid.sampled(learned.model.density(atoms).at, threads=available_cores())

    return _Source(density, learned.in_words())


@in_one_thread
def _by_matrices(path: Path, spacing_A: float) -> _Source:
    found, orbitals = _known(path)
    off = found.error(functools.partial(_density_error, orbitals, spacing_A))

    @in_one_thread
    def density(atoms: Atoms, grid: Grid) -> Floats:
        return density_on(found.learned.density(atoms)[0], orbitals, atoms, grid)

    words = f"left-out error of the density: {100 * off:.4f} % (L1)"
    return _Source(density, found.in_words(words))


@in_one_thread
def dipoles(paths: Sequence[Path], runs: Sequence[Frames]) -> Curves:
    """Dipole moments of molecules over time; for ions, about the centre of mass.

    Raises
    ------
    RunError
        If the structures are periodic, or dipoles cannot be computed.
    """
    notes, out = [], []
    for path, frames in zip(paths, runs, strict=True):
        if frames.atoms.pbc.any():
            raise RunError(f"{path}: dipoles are for molecules, but this run is periodic")
        found, orbitals = _known(path)
        values = np.array(
            [_dipole(frames.structure(k), found.learned, orbitals) for k in range(len(frames))]
        )
        named = {f"dipole_{axis}_D": values[:, k] for k, axis in enumerate("xyz")}
        named["dipole_D"] = np.linalg.norm(values, axis=1)
        out.append(replace(frames, series=named))
        off = found.error(functools.partial(_dipole_error, orbitals))
        notes.append(f"{path}: " + found.in_words(f"left-out error of dipoles: {off:.1e} D"))
    return replace(series(out, list(out[0].series)), title="dipole moment", notes=tuple(notes))


def _known(path: Path) -> tuple[LearnedFromRun, OrbitalValues]:
    found = learn_from(path)
    return found, known_orbitals(path, found.left_out[-1])


def _grid(atoms: Atoms, spacing_A: float) -> Grid:
    try:
        return grid_of(atoms, spacing_A)
    except ValueError as error:
        raise RunError(str(error)) from error


def _dipole(atoms: Atoms, learned: LearnedMatrices, orbitals: OrbitalValues) -> Floats:
    return _dipole_of(atoms, learned.density(atoms)[0], learned.like.cores, orbitals)


def _dipole_of(
    atoms: Atoms, density: BlockMatrix, cores: Floats, orbitals: OrbitalValues
) -> Floats:
    """Dipole moment (3,), Debye."""
    points, weights = quadrature(atoms)
    electrons = weights * DensityOfMatrix(atoms, density, orbitals).at(points)
    centre = atoms.get_center_of_mass()
    moment = cores @ (atoms.positions - centre) - electrons @ (points - centre)
    return np.asarray(moment / DEBYE)


def _dipole_error(orbitals: OrbitalValues, trial: LearnedMatrices, label: LabelMatrices) -> float:
    m = label.matrices
    truth = _dipole_of(label.atoms, m.density, m.cores, orbitals)
    return float(np.linalg.norm(_dipole(label.atoms, trial, orbitals) - truth))


def _density_error(
    orbitals: OrbitalValues, spacing_A: float, trial: LearnedMatrices, label: LabelMatrices
) -> float:
    """Integral of the absolute difference per electron; for molecules, including the cores."""
    both = label.matrices.density, trial.density(label.atoms)[0]
    if label.atoms.pbc.any():
        grid = _grid(label.atoms, spacing_A)
        truth, found = (density_on(p, orbitals, label.atoms, grid) for p in both)
        return relative_errors(found, truth, grid.volume)[0]
    points, weights = quadrature(label.atoms)
    truth, found = (DensityOfMatrix(label.atoms, p, orbitals).at(points) for p in both)
    return relative_errors(found, truth, weights)[0]

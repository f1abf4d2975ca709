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
from otf.electrons.learned_matrices import ElectronicStructure
from otf.errors import RunError
from otf.io.frames import Frames
from otf.io.matrices import LabelMatrices
from otf.io.volumes import write_cube, write_volume
from otf.model.one_thread import in_one_thread
from otf.model.workers import available_cores
from otf.orbitals.block_matrices import BlockMatrix
from otf.orbitals.grids import Grid, grid_of
from otf.postprocess.electronic.learned_matrices import MatrixSource, Quantity, sources_of
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
    """A source of densities, and a note on its accuracy for a trajectory."""

    density: Callable[[Atoms, Grid], Floats]
    note: Callable[[Frames], str]


def densities(
    paths: Sequence[Path],
    runs: Sequence[Frames],
    *,
    spacing_A: float,
    volume: Path,
    route: Route = "dm",
    files: Sequence[Path] = (),
    model: Path | None = None,
    grid: tuple[int, int, int] | None = None,
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
    model, grid
        See :func:`~otf.postprocess.electronic.learned_matrices.sources_of`.

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
            source = _by_matrices(sources_of([path], model, grid)[0], spacing_A)
        electrons = np.empty(len(frames))
        for k in range(len(frames)):
            atoms = frames.structure(k)
            points = _grid(atoms, spacing_A)
            values = source.density(atoms, points)
            electrons[k] = values.sum() * points.volume
            name = volume.stem if total == 1 else f"{volume.stem}_{len(written):06d}"
            written.append(volume.with_name(name + volume.suffix))
            write(written[-1], atoms, points, values)
        out.append(replace(frames, series={"electrons_on_grid": electrons}))
        notes.append(f"{path}: {source.note(frames)}")
    notes.append(f"written: {written[0]}" + (f" to {written[-1].name}" if total > 1 else ""))
    return replace(series(out, ["electrons_on_grid"]), title="density", notes=tuple(notes))


def _by_points(path: Path, files: Sequence[Path], atoms: Atoms) -> _Source:
    learned = learn_points(path, files, atoms)

    def density(atoms: Atoms, grid: Grid) -> Floats:
        return grid.sampled(learned.model.density(atoms).at, threads=available_cores())

    return _Source(density, lambda _: learned.in_words())


@in_one_thread
def _by_matrices(source: MatrixSource, spacing_A: float) -> _Source:
    orbitals = source.orbitals()

    @in_one_thread
    def density(atoms: Atoms, grid: Grid) -> Floats:
        return density_on(source.of(atoms).density, orbitals, atoms, grid)

    at = _DensityAt(orbitals, spacing_A)
    quantity = Quantity("the density", at.of, at.true, at.error, "{:.4%} (L1)".format)
    return _Source(density, in_one_thread(lambda frames: source.note(frames, quantity)))


@in_one_thread
def dipoles(sources: Sequence[MatrixSource], runs: Sequence[Frames]) -> Curves:
    """Dipole moments of molecules over time; for ions, about the centre of mass.

    Raises
    ------
    RunError
        If the structures are periodic, or dipoles cannot be computed.
    """
    notes, out = [], []
    for source, frames in zip(sources, runs, strict=True):
        if frames.atoms.pbc.any():
            raise RunError(f"{frames.name}: dipoles are for molecules, but this run is periodic")
        orbitals = source.orbitals()
        values = np.array(
            [_dipole(orbitals, source.of(frames.structure(k))) for k in range(len(frames))]
        )
        named = {f"dipole_{axis}_D": values[:, k] for k, axis in enumerate("xyz")}
        named["dipole_D"] = np.linalg.norm(values, axis=1)
        out.append(replace(frames, series=named))
        quantity = Quantity(
            "dipoles",
            functools.partial(_dipole, orbitals),
            functools.partial(_true_dipole, orbitals),
            lambda found, truth, _: float(np.linalg.norm(found - truth)),
            "{:.1e} D".format,
        )
        notes.append(f"{frames.name}: {source.note(frames, quantity)}")
    return replace(series(out, list(out[0].series)), title="dipole moment", notes=tuple(notes))


def _grid(atoms: Atoms, spacing_A: float) -> Grid:
    try:
        return grid_of(atoms, spacing_A)
    except ValueError as error:
        raise RunError(str(error)) from error


def _dipole(orbitals: OrbitalValues, found: ElectronicStructure) -> Floats:
    cores = found.filling.cores(found.atoms)
    return _dipole_of(found.atoms, found.density, cores, orbitals)


def _true_dipole(orbitals: OrbitalValues, label: LabelMatrices) -> Floats:
    return _dipole_of(label.atoms, label.matrices.density, label.matrices.cores, orbitals)


def _dipole_of(
    atoms: Atoms, density: BlockMatrix, cores: Floats, orbitals: OrbitalValues
) -> Floats:
    """Dipole moment (3,), Debye."""
    points, weights = quadrature(atoms)
    electrons = weights * DensityOfMatrix(atoms, density, orbitals).at(points)
    centre = atoms.get_center_of_mass()
    moment = cores @ (atoms.positions - centre) - electrons @ (points - centre)
    return np.asarray(moment / DEBYE)


@dataclass(frozen=True, eq=False)
class _DensityAt:
    """Density of a structure where its error is measured: for molecules including the cores."""

    orbitals: OrbitalValues
    spacing_A: float

    def of(self, found: ElectronicStructure) -> Floats:
        """From learned matrices."""
        return self._values(found.atoms, found.density)

    def true(self, label: LabelMatrices) -> Floats:
        """From the matrices of a label."""
        return self._values(label.atoms, label.matrices.density)

    def error(self, found: Floats, truth: Floats, atoms: Atoms) -> float:
        """Integral of the absolute difference per electron."""
        if atoms.pbc.any():
            return relative_errors(found, truth, _grid(atoms, self.spacing_A).volume)[0]
        return relative_errors(found, truth, quadrature(atoms)[1])[0]

    def _values(self, atoms: Atoms, density: BlockMatrix) -> Floats:
        if atoms.pbc.any():
            return density_on(density, self.orbitals, atoms, _grid(atoms, self.spacing_A))
        return DensityOfMatrix(atoms, density, self.orbitals).at(quadrature(atoms)[0])

"""Orbital energies and charges along an accelerated trajectory, from learned matrices."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from otf.analysis.blocks import Estimate, block_estimate
from otf.analysis.curves import Curves
from otf.analysis.series import series
from otf.electrons.levels import Levels, levels_of
from otf.electrons.mulliken import mulliken_charges
from otf.errors import RunError
from otf.io.frames import Frames
from otf.io.matrices import LabelMatrices
from otf.model.one_thread import in_one_thread
from otf.postprocess.electronic.learned_matrices import LearnedFromRun, LearnedMatrices, learn_from

_POINTS_A_WIDTH = 0.25


@in_one_thread
def gap(paths: Sequence[Path], runs: Sequence[Frames]) -> Curves:
    """The gap of every frame, and its mean."""
    notes, out = [], []
    for path, frames in zip(paths, runs, strict=True):
        found = learn_from(path)
        values = [found.learned.levels(frames.structure(k)).gap for k in range(len(frames))]
        out.append(replace(frames, series={"gap_eV": np.array(values)}))
        notes.append(f"{path}: {_level_errors(found)}")
    return replace(series(out, ["gap_eV"]), title="gap", notes=tuple(notes))


@in_one_thread
def level_density(
    paths: Sequence[Path],
    runs: Sequence[Frames],
    *,
    width_eV: float,
    below_eV: float,
    above_eV: float,
) -> Curves:
    """Mean density of states over the frames, per eV, about the mean highest occupied level."""
    notes, found = [], []
    for path, frames in zip(paths, runs, strict=True):
        known = learn_from(path)
        found += [known.learned.levels(frames.structure(k)) for k in range(len(frames))]
        notes.append(f"{path}: {_level_errors(known)}")
    highest = _highest_occupied(found)
    grid = np.arange(-below_eV, above_eV, _POINTS_A_WIDTH * width_eV)
    samples = np.array([f.density(grid + float(highest.mean), width_eV) for f in found])
    return Curves(
        "density of states",
        "energy_eV",
        grid,
        {"levels_per_eV": block_estimate(samples)},
        {"highest_occupied_eV": highest},
        tuple(notes),
    )


@in_one_thread
def bands(
    paths: Sequence[Path],
    runs: Sequence[Frames],
    *,
    k_path: str | None,
    points: int,
    below_eV: float,
    above_eV: float,
) -> Curves:
    """Bands of crystals along a path, averaged over the frames; energies as in the level density.

    Parameters
    ----------
    k_path
        Names of special points such as ``GXWG``; by default all of the lattice of the first frame.
    points
        Number of k points.

    Raises
    ------
    RunError
        If a run is not of a crystal, or there is no such path.
    """
    first = runs[0].structure(0)
    if not first.pbc.all():
        raise RunError(f"{runs[0].name}: bands need a crystal, periodic in all directions")
    try:
        along = first.cell.bandpath(k_path, npoints=points)
    except (KeyError, ValueError) as error:
        known = ", ".join(first.cell.bandpath(npoints=0).special_points)
        raise RunError(
            f"--path {k_path}: not a path in this lattice ({error}); it has {known}"
        ) from error
    notes, levels, samples = [], [], []
    for path, frames in zip(paths, runs, strict=True):
        found = learn_from(path)
        if found.learned.like.kpoints is None:
            raise RunError(f"{path}: its labels have no k points, so there are no bands")
        for k in range(len(frames)):
            atoms = frames.structure(k)
            levels.append(found.learned.levels(atoms))
            samples.append(found.learned.bands(atoms, along.kpts))
        notes.append(f"{path}: {_level_errors(found)}")
    highest = _highest_occupied(levels)
    x, ticks, names = along.get_linear_kpoint_axis()
    estimate = block_estimate(np.array(samples) - float(highest.mean))
    y = {
        f"band_{n + 1}_eV": Estimate(estimate.mean[:, n], estimate.error[:, n])
        for n in range(estimate.mean.shape[1])
        if estimate.mean[:, n].max() > -below_eV and estimate.mean[:, n].min() < above_eV
    }
    where = ", ".join(f"{name} at {at:.4f}" for name, at in zip(names, ticks, strict=True))
    return Curves(
        "bands", "k_per_A", x, y, {"highest_occupied_eV": highest}, (f"path: {where}", *notes)
    )


@in_one_thread
def charges(paths: Sequence[Path], runs: Sequence[Frames]) -> Curves:
    """Mulliken charges over time, averaged over the atoms of each element."""
    notes, out = [], []
    for path, frames in zip(paths, runs, strict=True):
        found = learn_from(path)
        values = np.array(
            [
                mulliken_charges(
                    *found.learned.density(frames.structure(k)), found.learned.like.cores
                )
                for k in range(len(frames))
            ]
        )
        symbols = np.array(frames.atoms.symbols)
        of_elements = {
            f"charge_{symbol}_e": values[:, symbols == symbol].mean(axis=1)
            for symbol in dict.fromkeys(symbols.tolist())
        }
        out.append(replace(frames, series=of_elements))
        off = found.error(_charge_error)
        notes.append(f"{path}: " + found.in_words(f"mean left-out error of charges: {off:.1e} e"))
    return replace(series(out, list(out[0].series)), title="Mulliken charges", notes=tuple(notes))


def _highest_occupied(levels: Sequence[Levels]) -> Estimate:
    """Mean highest occupied level over the frames, eV."""
    mean = np.mean([found.energies[found.occupied - 1] for found in levels])
    return Estimate(np.array(mean), np.array(np.nan))


def _level_errors(found: LearnedFromRun) -> str:
    gap_off, level_off = (1e3 * found.error(of) for of in (_gap_error, _level_error))
    return found.in_words(
        f"left-out error of the gap: {gap_off:.1f} meV, of occupied levels: {level_off:.1f} meV"
    )


def _truth(label: LabelMatrices) -> Levels:
    m = label.matrices
    return levels_of(m.hamiltonian, m.overlap, m.electrons, m.kpoints)


def _gap_error(trial: LearnedMatrices, label: LabelMatrices) -> float:
    return abs(trial.levels(label.atoms).gap - _truth(label).gap)


def _level_error(trial: LearnedMatrices, label: LabelMatrices) -> float:
    truth = _truth(label)
    off = np.abs(trial.levels(label.atoms).energies - truth.energies)
    return float(off[: truth.occupied].mean())


def _charge_error(trial: LearnedMatrices, label: LabelMatrices) -> float:
    m = label.matrices
    found = mulliken_charges(*trial.density(label.atoms), m.cores)
    return float(np.abs(found - mulliken_charges(m.density, m.overlap, m.cores)).mean())

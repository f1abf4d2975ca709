"""Orbital energies and charges along an accelerated trajectory, from learned matrices."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms

from otf.analysis.blocks import Estimate, block_estimate
from otf.analysis.curves import Curves
from otf.analysis.series import series
from otf.arrays import Floats
from otf.electrons.learned_matrices import ElectronicStructure
from otf.electrons.levels import Levels, levels_of
from otf.electrons.mulliken import mulliken_charges
from otf.errors import RunError
from otf.io.frames import Frames
from otf.io.matrices import LabelMatrices
from otf.model.one_thread import in_one_thread
from otf.postprocess.electronic.learned_matrices import MatrixSource, Quantity

_POINTS_A_WIDTH = 0.25


@in_one_thread
def gap(sources: Sequence[MatrixSource], runs: Sequence[Frames]) -> Curves:
    """The gap of every frame, and its mean."""
    notes, out = [], []
    for source, frames in zip(sources, runs, strict=True):
        values = [source.of(frames.structure(k)).levels.gap for k in range(len(frames))]
        out.append(replace(frames, series={"gap_eV": np.array(values)}))
        notes.append(f"{frames.name}: {source.note(frames, _GAP, _LEVELS)}")
    return replace(series(out, ["gap_eV"]), title="gap", notes=tuple(notes))


@in_one_thread
def level_density(
    sources: Sequence[MatrixSource],
    runs: Sequence[Frames],
    *,
    width_eV: float,
    below_eV: float,
    above_eV: float,
) -> Curves:
    """Mean density of states over the frames, per eV, about the mean highest occupied level."""
    notes, found = [], []
    for source, frames in zip(sources, runs, strict=True):
        found += [source.of(frames.structure(k)).levels for k in range(len(frames))]
        notes.append(f"{frames.name}: {source.note(frames, _GAP, _LEVELS)}")
    highest = _highest_occupied(found)
    grid = np.arange(-below_eV, above_eV, _POINTS_A_WIDTH * width_eV)
    samples = np.array([f.density(grid + float(highest.mean), width_eV) for f in found])
    return Curves(
        "density of states",
        "energy_eV",
        grid,
        {"levels_per_eV": block_estimate(samples)},
        {"highest_occupied_eV": highest, "fermi_level_eV": _fermi_level(found)},
        tuple(notes),
    )


@in_one_thread
def bands(
    sources: Sequence[MatrixSource],
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
    for source, frames in zip(sources, runs, strict=True):
        if source.filling.kpoints(frames.atoms) is None:
            raise RunError(f"{frames.name}: its labels have no k points, so there are no bands")
        for k in range(len(frames)):
            found = source.of(frames.structure(k))
            levels.append(found.levels)
            samples.append(found.bands(along.kpts))
        notes.append(f"{frames.name}: {source.note(frames, _GAP, _LEVELS)}")
    highest = _highest_occupied(levels)
    x, ticks, names = along.get_linear_kpoint_axis()
    estimate = block_estimate(np.array(samples) - float(highest.mean))
    y = {
        f"band_{n + 1}_eV": Estimate(estimate.mean[:, n], estimate.error[:, n])
        for n in range(estimate.mean.shape[1])
        if estimate.mean[:, n].max() > -below_eV and estimate.mean[:, n].min() < above_eV
    }
    where = ", ".join(f"{name} at {at:.4f}" for name, at in zip(names, ticks, strict=True))
    fermi = _fermi_level(levels)
    return Curves(
        "bands",
        "k_per_A",
        x,
        y,
        {"highest_occupied_eV": highest, "fermi_level_eV": fermi},
        (f"path: {where}", *notes),
        tuple(zip(ticks.tolist(), names, strict=True)),
        (float(fermi.mean - highest.mean), "Fermi level"),
    )


@in_one_thread
def charges(sources: Sequence[MatrixSource], runs: Sequence[Frames]) -> Curves:
    """Mulliken charges over time, averaged over the atoms of each element."""
    notes, out = [], []
    for source, frames in zip(sources, runs, strict=True):
        values = np.array([source.of(frames.structure(k)).charges() for k in range(len(frames))])
        symbols = np.array(frames.atoms.symbols)
        of_elements = {
            f"charge_{symbol}_e": values[:, symbols == symbol].mean(axis=1)
            for symbol in dict.fromkeys(symbols.tolist())
        }
        out.append(replace(frames, series=of_elements))
        notes.append(f"{frames.name}: {source.note(frames, _CHARGES)}")
    return replace(series(out, list(out[0].series)), title="Mulliken charges", notes=tuple(notes))


def _highest_occupied(levels: Sequence[Levels]) -> Estimate:
    """Mean highest occupied level over the frames, eV."""
    mean = np.mean([found.energies[found.occupied - 1] for found in levels])
    return Estimate(np.array(mean), np.array(np.nan))


def _fermi_level(levels: Sequence[Levels]) -> Estimate:
    """Mean Fermi level over the frames, eV; in a gap, its middle."""
    mean = np.mean([found.fermi_level for found in levels])
    return Estimate(np.array(mean), np.array(np.nan))


def _occupied(levels: Levels) -> Floats:
    return levels.energies[: levels.occupied]


def _truth(label: LabelMatrices) -> Levels:
    m = label.matrices
    return levels_of(m.hamiltonian, m.overlap, m.electrons, m.kpoints)


def _true_charges(label: LabelMatrices) -> Floats:
    m = label.matrices
    return mulliken_charges(m.density, m.overlap, m.cores)


def _mean_difference(found: Floats, truth: Floats, _: Atoms) -> float:
    return float(np.abs(found - truth).mean())


def _meV(error_eV: float) -> str:
    return f"{1e3 * error_eV:.1f} meV"


_GAP = Quantity(
    "the gap",
    lambda found: np.array(found.levels.gap),
    lambda label: np.array(_truth(label).gap),
    _mean_difference,
    _meV,
)
_LEVELS = Quantity(
    "occupied levels",
    lambda found: _occupied(found.levels),
    lambda label: _occupied(_truth(label)),
    _mean_difference,
    _meV,
)
_CHARGES = Quantity(
    "charges", ElectronicStructure.charges, _true_charges, _mean_difference, "{:.1e} e".format
)

"""Sampled points of a reference density, and relative errors of densities."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from otf.arrays import Floats, Ints
from otf.orbitals.grids import Grid
from otf.orbitals.periodic_images import images_near

_SOFT = 0.067  # electrons per cubic Angstrom (0.01 per cubic bohr), added to the density in weights
_SPARSE = 0.03 * _SOFT  # added to the density in the sampling probability
_WHOLE = 0.05  # largest distance from a whole number of electrons
_AT_ATOMS = 0.1  # of the points, drawn near atoms only
_CORE_A = 0.5  # width of those
_CENTRE_A = 0.15  # from here on as many points in each interval of the distance


@dataclass(frozen=True, eq=False)
class Sample:
    """Sampled points of a density.

    Attributes
    ----------
    points
        (P, 3) Angstrom.
    values
        (P,) electrons per cubic Angstrom.
    weights
        (P,) of the squared errors: their weighted sum estimates the integral of the squared error
        divided by the density, so that regions of high and low density count alike.
    electrons
        The integral of the density; None if it is not known, as on a grid that is too coarse.
    """

    points: Floats
    values: Floats
    weights: Floats
    electrons: float | None


def sample_of_points(
    atoms: Atoms,
    points: Floats,
    volumes: Floats,
    values: Floats,
    *,
    reach: float,
    count: int,
    seed: int,
    electrons: float | None = None,
) -> Sample:
    """Draw points by importance sampling of the density, within reach of the atoms only.

    A tenth of them is drawn near the atoms whatever the density: that of a pseudopotential is low
    there, changes most, and would hardly be sampled.

    Parameters
    ----------
    points, volumes, values
        All points of the reference density: (P, 3), (P,) and (P,).
    reach
        Largest distance from an atom, Angstrom.
    count
        Number of points to draw.
    electrons
        Number of electrons; by default the integral if it is close to a whole number.
    """
    distances = _distances(atoms, reach, points)
    chosen, weights = _drawn(volumes, values, distances, count, seed)
    total = _counted(float(volumes @ values)) if electrons is None else electrons
    return Sample(points[chosen], values[chosen], weights, total)


def sample_of_grid(
    atoms: Atoms,
    grid: Grid,
    values: Floats,
    *,
    reach: float,
    count: int,
    seed: int,
    electrons: float | None = None,
) -> Sample:
    """As :func:`sample_of_points`, from values (Nx, Ny, Nz) on a grid."""
    distances = grid.sampled(lambda points: _distances(atoms, reach, points)).ravel()
    flat, volumes = values.ravel(), np.full(values.size, grid.volume)
    chosen, weights = _drawn(volumes, flat, distances, count, seed)
    indices = np.column_stack(np.unravel_index(chosen, grid.shape))
    total = _counted(float(flat.sum()) * grid.volume) if electrons is None else electrons
    return Sample(grid.origin + indices @ grid.steps, flat[chosen], weights, total)


def _counted(total: float) -> float | None:
    return float(round(total)) if abs(total - round(total)) < _WHOLE else None


def _distances(atoms: Atoms, reach: float, points: Floats) -> Floats:
    """Distance (P,) of each point from the nearest atom; infinite beyond the reach."""
    near = images_near(atoms, np.full(len(atoms), reach), points)
    if not len(near.positions):
        return np.full(len(points), np.inf)
    return np.asarray(cKDTree(near.positions).query(points, distance_upper_bound=reach)[0])


def _drawn(
    volumes: Floats, values: Floats, distances: Floats, count: int, seed: int
) -> tuple[Ints, Floats]:
    """Indices and weights of points, by systematic sampling."""
    by_density = volumes * (np.abs(values) + _SPARSE) * np.isfinite(distances)
    by_distance = volumes * np.exp(-((distances / _CORE_A) ** 2)) / (distances**2 + _CENTRE_A**2)
    share = (1.0 - _AT_ATOMS) * by_density / by_density.sum()
    if by_distance.any():
        share += _AT_ATOMS * by_distance / by_distance.sum()
    start = np.random.default_rng(seed).random()
    ends = np.cumsum(share)
    chosen = np.searchsorted(ends, (np.arange(count) + start) / count * ends[-1])
    chosen = np.minimum(chosen, len(share) - 1)
    weights = (
        volumes[chosen] * ends[-1] / ((np.abs(values[chosen]) + _SOFT) * share[chosen] * count)
    )
    return chosen, weights


def relative_errors(found: Floats, truth: Floats, volumes: Floats | float) -> tuple[float, float]:
    r"""Relative L1 and L2 errors, the former :math:`\int|\Delta\rho| / \int\rho`.

    Source: Zepeda-Nunez et al., J. Comput. Phys. 443, 110523 (2021), section 4.
    """
    off = np.abs(found - truth)
    l1 = np.sum(volumes * off) / np.sum(volumes * np.abs(truth))
    l2 = np.sqrt(np.sum(volumes * off**2) / np.sum(volumes * truth**2))
    return float(l1), float(l2)

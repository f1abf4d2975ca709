r"""Bands and density matrices of crystals by Bloch sums over k points, with smeared occupations.

.. math::

   H(k) = \sum_R e^{2\pi i k \cdot R} H_R, \qquad
   P_R = \frac{2}{N_k} \sum_k e^{-2\pi i k \cdot R} C f(\epsilon) C^\dagger

Occupations f are those of Fermi and Dirac, or of Methfessel and Paxton of order N, with
x = (ε - μ) / w and Hermite polynomials:

.. math::

   f(x) = \tfrac12 \mathrm{erfc}(x) + \sum_{n=1}^N A_n H_{2n-1}(x) e^{-x^2}, \qquad
   A_n = \frac{(-1)^n}{n! \, 4^n \sqrt{\pi}}

Sources: Ashcroft and Mermin, Solid State Physics (1976), ch. 8 and 10; Methfessel and Paxton,
Phys. Rev. B 40, 3616 (1989), eqs. 2-4.
"""

import math

import numpy as np
import scipy.linalg
from numpy.polynomial.hermite import hermval
from scipy.optimize import bisect
from scipy.special import erfc, expit

from otf.arrays import Complex, Floats
from otf.orbitals.block_matrices import BlockMatrix

_MARGIN = 40.0  # widths beyond the lowest and highest level that bracket the Fermi level
_MARGIN_OF_SIESTA = math.sqrt(-math.log(1e-12))
_SHARPEST_EV = 1e-6
_SPIN = 2.0


def grid(counts: tuple[int, int, int], shift: tuple[float, float, float]) -> Floats:
    """All k points (K, 3) of a grid, fractional; shifts in units of the grid spacing."""
    axes = [(np.arange(n) + s) / n for n, s in zip(counts, shift, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def density_of(
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    electrons: float,
    kpoints: Floats,
    smearing_eV: float,
    *,
    methfessel_paxton: int | None = None,
) -> BlockMatrix:
    """Density matrix with the blocks of the Hamiltonian.

    Parameters
    ----------
    kpoints
        (K, 3), fractional, of equal weight.
    smearing_eV
        Width of the occupations.
    methfessel_paxton
        Their order, for those of Methfessel and Paxton; None for those of Fermi and Dirac.

    Raises
    ------
    ValueError
        If the overlap is not positive definite at a k point.
    """
    half = _one_of_each(kpoints)
    levels, orbitals = _solved(hamiltonian, overlap, half)
    weights = np.array([weight for _, weight in half])
    width = max(smearing_eV, _SHARPEST_EV)
    occupations = _occupations(levels / width, weights, electrons, methfessel_paxton)
    pairs = hamiltonian.pairs
    values = np.zeros_like(hamiltonian.values)
    for (k, weight), filled, c in zip(half, occupations, orbitals, strict=True):
        density = _SPIN * weight * (c * filled) @ c.conj().T
        _add(values, hamiltonian, density, np.exp(-2j * np.pi * (pairs.shifts @ k)))
    return hamiltonian.with_values(values)


def bands(hamiltonian: BlockMatrix, overlap: BlockMatrix, kpoints: Floats) -> Floats:
    """Band energies (K, orbitals) in eV at the given k points.

    Raises
    ------
    ValueError
        If the overlap is not positive definite at a k point.
    """
    return _energies(hamiltonian, overlap, list(kpoints))


def levels(
    hamiltonian: BlockMatrix, overlap: BlockMatrix, kpoints: Floats
) -> tuple[Floats, Floats]:
    """Band energies (K, orbitals) in eV and weights (K,), for one of each pair k and -k.

    Raises
    ------
    ValueError
        If the overlap is not positive definite at a k point.
    """
    half = _one_of_each(kpoints)
    energies = _energies(hamiltonian, overlap, [k for k, _ in half])
    return energies, np.array([weight for _, weight in half])


def fermi_level(
    levels: Floats,
    weights: Floats,
    electrons: float,
    smearing_eV: float,
    *,
    methfessel_paxton: int | None = None,
) -> float:
    """Fermi level in eV of band energies (K, orbitals) with weights (K,)."""
    width = max(smearing_eV, _SHARPEST_EV)
    return width * _fermi(levels / width, weights, electrons, methfessel_paxton)


def _energies(hamiltonian: BlockMatrix, overlap: BlockMatrix, kpoints: list[Floats]) -> Floats:
    """Eigenvalues (K, orbitals); without eigenvectors, which take most of the time."""
    found = []
    for k in kpoints:
        try:
            solved = scipy.linalg.eigh(_at(hamiltonian, k), _at(overlap, k), eigvals_only=True)
        except np.linalg.LinAlgError as error:
            raise ValueError("the overlap is not positive definite") from error
        found.append(solved)
    return np.array(found, dtype=np.float64)


def _solved(
    hamiltonian: BlockMatrix, overlap: BlockMatrix, half: list[tuple[Floats, float]]
) -> tuple[Floats, list[Floats | Complex]]:
    """Eigenvalues (K, orbitals) and eigenvectors at each k point."""
    energies: list[Floats] = []
    orbitals: list[Floats | Complex] = []
    for k, _ in half:
        try:
            found = scipy.linalg.eigh(_at(hamiltonian, k), _at(overlap, k))
        except np.linalg.LinAlgError as error:
            raise ValueError("the overlap is not positive definite") from error
        energies.append(np.asarray(found[0], dtype=np.float64))
        if k.any():
            orbitals.append(np.asarray(found[1], dtype=np.complex128))
        else:
            orbitals.append(np.asarray(found[1], dtype=np.float64))
    return np.array(energies, dtype=np.float64), orbitals


def _one_of_each(kpoints: Floats) -> list[tuple[Floats, float]]:
    """One of each pair k and -k with its weight: their density matrices are conjugates."""
    out: list[tuple[Floats, float]] = []
    left = {tuple(np.round(k % 1.0, 9) % 1.0): k for k in kpoints}
    while left:
        key, k = left.popitem()
        partner = tuple(np.round(-np.array(key) % 1.0, 9) % 1.0)
        twice = left.pop(partner, None) is not None
        out.append((k, (2.0 if twice else 1.0) / len(kpoints)))
    return out


def _occupations(
    levels: Floats, weights: Floats, electrons: float, methfessel_paxton: int | None
) -> Floats:
    """Occupations of levels in units of their width."""
    fermi = _fermi(levels, weights, electrons, methfessel_paxton)
    return _filled(levels - fermi, methfessel_paxton)


def _filled(x: Floats, methfessel_paxton: int | None) -> Floats:
    """Occupations of levels above the Fermi level by x widths."""
    if methfessel_paxton is None:
        return np.asarray(expit(-x))
    return methfessel_paxton_step(x, methfessel_paxton)


def _fermi(
    levels: Floats, weights: Floats, electrons: float, methfessel_paxton: int | None
) -> float:
    """Fermi level in units of the width."""

    def missing(fermi: float) -> float:
        filled = _filled(levels - fermi, methfessel_paxton).sum(axis=1)
        return float(_SPIN * weights @ filled - electrons)

    # Occupations of Methfessel and Paxton may have several Fermi levels in a gap: by bisection of
    # this interval, it is that of SIESTA.
    margin = _MARGIN if methfessel_paxton is None else _MARGIN_OF_SIESTA
    return float(bisect(missing, levels.min() - margin, levels.max() + margin, xtol=1e-12))


def methfessel_paxton_step(x: Floats, order: int) -> Floats:
    """The smeared step function of Methfessel and Paxton.

    >>> methfessel_paxton_step(np.array([-9.0, -1.0, 0.0]), order=1).round(4)
    array([1.    , 1.0251, 0.5   ])
    """
    terms = [0.0] * (2 * order + 1)
    for n in range(1, order + 1):
        terms[2 * n - 1] = (-1.0) ** n / (math.factorial(n) * 4.0**n * math.sqrt(math.pi))
    return np.asarray(0.5 * erfc(x) + hermval(x, terms) * np.exp(-(x**2)))


def _at(matrix: BlockMatrix, k: Floats) -> Floats | Complex:
    """Bloch sum of a matrix at a k point; real at the Gamma point."""
    if not k.any():
        return matrix.dense()
    pairs, starts = matrix.pairs, np.concatenate([[0], np.cumsum(matrix.widths)])
    phases = np.exp(2j * np.pi * (pairs.shifts @ k))
    out = np.zeros((starts[-1], starts[-1]), dtype=np.complex128)
    for i, j, at, phase in zip(pairs.first, pairs.second, matrix.starts, phases, strict=True):
        rows, columns = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        shape = (starts[i + 1] - starts[i], starts[j + 1] - starts[j])
        out[rows, columns] += phase * matrix.values[at : at + shape[0] * shape[1]].reshape(shape)
    return out


def _add(values: Floats, like: BlockMatrix, density: Floats | Complex, phases: Complex) -> None:
    """Add the contribution of a k point to the blocks."""
    pairs, starts = like.pairs, np.concatenate([[0], np.cumsum(like.widths)])
    for i, j, at, phase in zip(pairs.first, pairs.second, like.starts, phases, strict=True):
        block = density[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
        values[at : at + block.size] += (phase * block).real.ravel()

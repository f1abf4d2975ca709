r"""Density matrices by diagonalisation, purification and extrapolation; energy density matrices.

Closed shells, summed over spins, no smearing; S is the overlap.

==============================================  =========================
formula                                         code
==============================================  =========================
H C = S C e, P = 2 C_occ C_occ^T                :func:`of_hamiltonian`
D <- 3 D S D - 2 D S D S D, D = P / 2           :func:`purified`
P = sum_k c_k P_k, S = sum_k c_k S_k            :func:`extrapolated`
W = 1/2 P H P                                   :func:`energy_density`
==============================================  =========================

Sources: McWeeny, Rev. Mod. Phys. 32, 335 (1960); Polack, Dusson, Stamm, Lipparini, J. Chem. Theory
Comput. 17, 6965 (2021), for the fit of the overlap (there of its eigenvectors' space).
"""

from collections.abc import Sequence

import numpy as np
import scipy.linalg

from otf.arrays import Floats

_SINGULAR = 1e-6  # relative singular values of the history below this are noise


def of_hamiltonian(hamiltonian: Floats, overlap: Floats, electrons: float) -> Floats:
    """Density matrix of the lowest orbitals of a Hamiltonian.

    Raises
    ------
    ValueError
        If the number of electrons is not even, or the overlap is not positive definite.
    """
    pairs = round(electrons / 2)
    if abs(electrons - 2 * pairs) > 1e-3:
        raise ValueError(f"{electrons} electrons cannot be paired (closed shells only)")
    try:
        orbitals = scipy.linalg.eigh(hamiltonian, overlap, subset_by_index=(0, pairs - 1))[1]
    except np.linalg.LinAlgError as error:
        raise ValueError("the overlap is not positive definite") from error
    return np.asarray(2.0 * orbitals @ orbitals.T)


def purified(density: Floats, overlap: Floats, *, times: int = 2) -> Floats:
    """Purify a density matrix by McWeeny iterations, each of which squares the error."""
    half = 0.5 * density
    for _ in range(times):
        once = half @ overlap @ half
        half = 3.0 * once - 2.0 * once @ overlap @ half
    return np.asarray(half + half.T)


def extrapolated(
    overlaps: Sequence[Floats], densities: Sequence[Floats], overlap: Floats
) -> Floats:
    """Extrapolate the density matrix by a least-squares fit of the overlap, and purify it."""
    rows = np.array([s.ravel() for s in overlaps])
    weights = np.linalg.lstsq(rows.T, overlap.ravel(), rcond=_SINGULAR)[0]
    mixed = np.tensordot(weights, np.array(densities), axes=1)
    return purified(mixed, overlap)


def energy_density(density: Floats, hamiltonian: Floats) -> Floats:
    """Energy density matrix for forces, in the units of the Hamiltonian."""
    return np.asarray(0.5 * density @ hamiltonian @ density)

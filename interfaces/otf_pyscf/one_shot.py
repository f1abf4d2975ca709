r"""Energy and forces of a density matrix that is not self-consistent.

One Hamiltonian is built, from the given density matrix. With the projector P and H = H[P], the
energy density matrix is W = ½ P H P: orbitals that diagonalise H within the space of P, and within
its complement, give PySCF's gradient this W, including Pulay terms. The deviation from
self-consistency is the orbital gradient, the block of H between the two spaces: divided by the
differences of the orbital energies it is, to first order, the rotation that would remove it. The
error of the energy is quadratic in this rotation, that of the forces linear.
"""

from typing import Any

import numpy as np
import scipy.linalg

from otf.arrays import Floats

FORCE_ERROR_PER_ROTATION = 100.0
"""Largest error of a force component, eV/Angstrom, relative to the norm of the rotation.

The largest observed ratio was 72 for the density matrix of another structure, 57 for one fitted to
overlaps or learned; typical are 10 to 30 (H2O, CH4, C2H4, CH3Cl; PBE, 6-31G and def2-SVP). The
ratio to the norm of the gradient varies far more: 0.2 to 18 eV/Angstrom per Hartree.
"""

_SMALLEST_GAP = 1e-3  # Hartree


def take_as_answer(mean_field: Any, density: Floats) -> float:
    """Set a closed-shell calculation to the projector nearest to a density matrix.

    Orbitals, their energies and the total energy are set; PySCF's gradient follows from them.

    Returns
    -------
    Norm of the rotation to self-consistency, to first order.
    """
    overlap = np.asarray(mean_field.get_ovlp())
    filled = mean_field.mol.nelectron // 2
    # Natural orbitals: those with the largest occupations span the projector.
    occupations, orbitals = scipy.linalg.eigh(overlap @ density @ overlap, overlap)
    orbitals = orbitals[:, np.argsort(-occupations, kind="stable")]
    occupation = np.where(np.arange(orbitals.shape[1]) < filled, 2.0, 0.0)
    projector = mean_field.make_rdm1(orbitals, occupation)
    potential = mean_field.get_veff(dm=projector)
    core = mean_field.get_hcore()
    hamiltonian = mean_field.get_fock(core, overlap, potential, projector)
    orbitals, energies = mean_field.canonicalize(orbitals, occupation, hamiltonian)[::-1]
    mean_field.mo_coeff, mean_field.mo_energy = orbitals, energies
    mean_field.mo_occ = occupation
    mean_field.e_tot = mean_field.energy_tot(projector, core, potential)
    mean_field.converged = True
    # PySCF's gradient is with respect to the rotation, for both spins: rows are empty orbitals.
    gradient = mean_field.get_grad(orbitals, occupation, hamiltonian).reshape(-1, filled)
    apart = energies[filled:, None] - energies[:filled]
    return float(np.linalg.norm(gradient / (4.0 * np.maximum(apart, _SMALLEST_GAP))))

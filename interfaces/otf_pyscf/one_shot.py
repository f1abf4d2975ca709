r"""Energy and forces of a density matrix that was not made self-consistent.

One Hamiltonian is built, from the density matrix as it is. With the projector P and H = H[P], the
energy density matrix is W = ½ P H P: orbitals that diagonalise H within the space of P, and within
the rest, give PySCF's gradient just that, Pulay terms and all. What is missing to self-consistency
is the orbital gradient, the block of H between the two spaces: the energy is off by its square, the
forces in proportion.
"""

from typing import Any

import numpy as np
import scipy.linalg

from otf.arrays import Floats

FORCE_ERROR_PER_GRADIENT = 5.0
"""Largest error of a force component, eV/Angstrom, for an orbital gradient of one Hartree.

The largest seen was 4.5, for H2O, CH4 and C2H6 at 300 K (PBE, def2-SVP).
"""


def take_as_answer(mean_field: Any, density: Floats) -> float:
    """Make a closed-shell calculation end in the projector nearest to a density matrix.

    Orbitals, their energies and the total energy are set; PySCF's gradient follows from them.

    Returns
    -------
    Norm of the orbital gradient, Hartree, as PySCF's own iterations count it.
    """
    overlap = np.asarray(mean_field.get_ovlp())
    filled = mean_field.mol.nelectron // 2
    # Natural orbitals: the fullest of them span the projector.
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
    return float(np.linalg.norm(mean_field.get_grad(orbitals, occupation, hamiltonian)))

"""Structure and matrices of a PySCF calculation that was not run by otf."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.engines.extras import install_command
from otf.engines.protocol import FinishedCalculation
from otf.errors import EngineError
from otf.orbitals.block_matrices import Matrices
from otf.units import BOHR, HARTREE
from otf_pyscf.orbitals import radial_functions, to_blocks


def read_finished(folder: Path) -> FinishedCalculation | None:
    """Structure and matrices of the checkpoint file (``.chk``) in a folder; None without one.

    Raises
    ------
    EngineError
        If the file cannot be used.
    """
    stored = sorted(folder.glob("*.chk"))
    if not stored:
        return None
    try:
        from pyscf.scf.chkfile import load_scf

        molecule, found = load_scf(str(stored[0]))
    except ImportError as error:
        raise EngineError(
            f"{stored[0]}: needs PySCF ({error}): {install_command('dft')}"
        ) from error
    except (OSError, KeyError, TypeError) as error:
        raise EngineError(f"{stored[0]}: cannot be read by PySCF ({error})") from error
    energies, orbitals, occupations = (
        np.asarray(found[name]) for name in ("mo_energy", "mo_coeff", "mo_occ")
    )
    if molecule.spin or energies.ndim > 1:
        raise EngineError(f"{stored[0]}: only closed shells can be learned")
    overlap = np.asarray(molecule.intor_symmetric("int1e_ovlp"))
    matrices = matrices_of(molecule, overlap, energies, orbitals, occupations)
    return FinishedCalculation(
        Atoms(
            [molecule.atom_pure_symbol(k) for k in range(molecule.natm)],
            molecule.atom_coords() * BOHR,
        ),
        matrices,
    )


def matrices_of(
    molecule: Any,
    overlap: Floats,
    energies: Floats,
    orbitals: Floats,
    occupations: Floats,
) -> Matrices:
    """Matrices of a converged closed shell; the Hamiltonian from its orbitals, at no cost."""
    left = overlap @ orbitals
    return Matrices(
        to_blocks(left * energies @ left.T * HARTREE, molecule),
        to_blocks(overlap, molecule),
        to_blocks(orbitals * occupations @ orbitals.T, molecule),
        float(molecule.nelectron),
        np.asarray(molecule.atom_charges(), dtype=np.float64),
        orbitals=radial_functions(molecule),
    )

"""PySCF's orbitals in the order and signs of otf."""

import numpy as np
import pytest
from ase.build import molecule

from tests.engines.round_overlap import assert_round

gto = pytest.importorskip("pyscf.gto")
orbitals = pytest.importorskip("otf_pyscf.orbitals")


@pytest.mark.parametrize("basis", ["def2-svp", "6-31g", "def2-tzvp"])
def test_the_overlap_of_a_bond_is_round(basis):
    """In the frame of a bond it has weight 0 only: a wrong sign or order of orbitals would show."""
    atoms = molecule("CH3OH")
    geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist()))
    mol = gto.M(atom=geometry, basis=basis, verbose=0)
    overlap = mol.intor("int1e_ovlp")
    blocks = orbitals.to_blocks(overlap, mol)
    assert_round(blocks, atoms)
    np.testing.assert_array_equal(orbitals.from_blocks(blocks, mol), overlap)


def test_atoms_of_an_element_must_be_alike():
    mol = gto.M(atom="H 0 0 0; H@2 0 0 1", basis={"H": "sto-3g", "H@2": "def2-svp"}, verbose=0)
    with pytest.raises(ValueError, match="different bases"):
        orbitals.shells_of(mol)

"""Overlap matrices computed from the orbitals."""

import numpy as np
import pytest
from ase.build import bulk, molecule

from otf.electrons.density.overlap import Overlaps
from otf.orbitals.block_matrices import Pairs
from tests.electrons.test_density import SHELLS, crystal, functions

pytestmark = pytest.mark.full  # PySCF

gto = pytest.importorskip("pyscf.gto")
orbitals = pytest.importorskip("otf_pyscf.orbitals")


@pytest.mark.parametrize("basis", ["def2-svp", "6-31g"])
def test_they_are_those_of_pyscf(basis):
    atoms = molecule("CH3OH")
    atoms.rattle(0.1, seed=1)
    geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist()))
    mol = gto.M(atom=geometry, basis=basis, verbose=0)
    truth = orbitals.to_blocks(mol.intor("int1e_ovlp"), mol)
    made = Overlaps(orbitals.shells_of(mol), orbitals.radial_functions(mol))
    np.testing.assert_allclose(made.of(atoms, truth.pairs).values, truth.values, atol=2e-6)


def test_crystals_have_hermitian_overlaps_that_end():
    atoms, matrix = crystal(3)
    found = Overlaps(SHELLS, functions()).of(atoms, matrix.pairs)
    dense = found.dense()
    np.testing.assert_allclose(dense, dense.T, atol=1e-9)
    np.testing.assert_allclose(np.diag(found.blocks(np.array([0]))[0]), 1.0, atol=1e-5)
    assert np.abs(found.values).max() < 1.001
    far = Pairs(np.array([0]), np.array([1]), np.array([[3, 0, 0]]))
    assert not Overlaps(SHELLS, functions()).of(bulk("Si", cubic=True), far).values.any()

"""PySCF's orbitals in otf's order and signs, and labels without self-consistency."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from otf.electrons.density.through_matrix import DensityOfMatrix, OrbitalValues
from otf.engines.protocol import DensityGuess
from otf.engines.registry import load_engine
from otf.errors import EngineError
from otf.orbitals.block_matrices import BlockMatrix
from otf.units import BOHR
from tests.engines.round_overlap import assert_round

pytestmark = pytest.mark.full  # PySCF

gto = pytest.importorskip("pyscf.gto")
orbitals = pytest.importorskip("otf_pyscf.orbitals")


@pytest.mark.parametrize("basis", ["def2-svp", "6-31g", "def2-tzvp"])
def test_the_overlap_of_a_bond_is_round(basis):
    """Along a bond only orbitals of equal m overlap: detects a wrong sign or order of orbitals."""
    atoms = molecule("CH3OH")
    geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist()))
    mol = gto.M(atom=geometry, basis=basis, verbose=0)
    overlap = mol.intor("int1e_ovlp")
    blocks = orbitals.to_blocks(overlap, mol)
    assert_round(blocks, atoms)
    np.testing.assert_array_equal(orbitals.from_blocks(blocks, mol), overlap)


@pytest.mark.parametrize("basis", ["def2-svp", "6-31g", "def2-tzvp", "sto-3g"])
def test_orbitals_in_space_are_those_of_pyscf(basis):
    atoms = molecule("CH3OH")
    geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist()))
    mol = gto.M(atom=geometry, basis=basis, verbose=0)
    noise = np.random.default_rng(1).normal(size=(mol.nao, mol.nao))
    density = noise @ noise.T
    values = OrbitalValues(orbitals.shells_of(mol), orbitals.radial_functions(mol))
    points = np.random.default_rng(2).normal(scale=2.0, size=(300, 3))
    points[:6] = atoms.positions  # including the cusps
    found = DensityOfMatrix(atoms, orbitals.to_blocks(density, mol), values).at(points)
    seen = mol.eval_gto("GTOval", points / BOHR)
    truth = np.einsum("pa,ab,pb->p", seen, density, seen) / BOHR**3
    np.testing.assert_allclose(found, truth, rtol=1e-6, atol=1e-6 * truth.max())


def test_atoms_of_an_element_must_be_alike():
    mol = gto.M(atom="H 0 0 0; H@2 0 0 1", basis={"H": "sto-3g", "H@2": "def2-svp"}, verbose=0)
    with pytest.raises(ValueError, match="different bases"):
        orbitals.shells_of(mol)


def opened(scratch, *, spin: int = 0, **options):
    engine_class = load_engine("pyscf")
    given = {"basis": "6-31g", "grid_level": 2, "threads": 1, "tolerance_eV": 1e-9, **options}
    engine = engine_class(engine_class.Options.model_validate(given), charge=0, spin=spin)
    engine.open(molecule("H2O"), scratch)
    return engine


@pytest.fixture(scope="module")
def converged(tmp_path_factory):
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=2)
    engine = opened(tmp_path_factory.mktemp("scf"))
    labels = engine.label(atoms, index=0)
    return atoms, labels, engine.matrices().density


def disturbed(density: BlockMatrix, size: float) -> BlockMatrix:
    noise = np.random.default_rng(5).normal(scale=size, size=density.dense().shape)
    dense = density.dense() + noise + noise.T
    return BlockMatrix.of_dense(density.numbers, density.shells, dense)


@pytest.mark.parametrize("size", [0.0, 1e-5, 1e-4])
def test_one_shot_is_within_what_it_says(tmp_path, converged, size):
    atoms, exact, density = converged
    engine = opened(tmp_path, mode="one_shot", one_shot_error_meV_A=1e6)
    label = engine.label(atoms, index=1, guess=DensityGuess(disturbed(density, size)))
    assert label.scf_iterations == 0
    assert engine.matrices() is None
    within = float(label.provenance.split("within ")[1].split()[0])
    error = 1e3 * np.abs(label.forces - exact.forces).max()
    assert error < within + 0.03  # the residual error of the reference
    assert label.energy - exact.energy == pytest.approx(0.0, abs=1e-7 + 1e4 * size**2)
    if size:
        assert error > 0.01 * within  # the bound is not too loose


def test_one_step_gives_the_hamiltonian_of_a_density(tmp_path, converged):
    atoms, _, density = converged
    engine = opened(tmp_path)
    engine.label(atoms, index=0)
    known = engine.matrices()
    found = engine.one_step(atoms, index=0, guess=DensityGuess(density))
    assert 0 < np.abs(found.hamiltonian.values - known.hamiltonian.values).max() < 1e-4
    np.testing.assert_allclose(found.density.values, known.density.values, atol=1e-5)
    far = engine.one_step(atoms, index=1, guess=DensityGuess(disturbed(density, 1e-3)))
    off = np.abs(far.hamiltonian.values - known.hamiltonian.values).max()
    assert 1e-3 < off < 1.0
    assert far.electrons == known.electrons


def test_one_shot_falls_back_to_self_consistency(tmp_path, converged):
    atoms, exact, density = converged
    engine = opened(tmp_path, mode="one_shot", one_shot_error_meV_A=0.1)
    label = engine.label(atoms, index=1, guess=DensityGuess(disturbed(density, 1e-3)))
    assert label.scf_iterations > 0
    assert engine.matrices() is not None
    np.testing.assert_allclose(label.forces, exact.forces, atol=1e-4)


@pytest.mark.parametrize("more", [{"spin": 2}, {"warm_start": "previous"}])
def test_one_shot_needs_something_to_shoot_with(tmp_path, more):
    with pytest.raises(EngineError, match=r"engine\.mode: one_shot needs"):
        opened(tmp_path, mode="one_shot", **more)


def test_a_basis_for_a_core_potential_comes_with_it(tmp_path):
    engine_class = load_engine("pyscf")
    options = engine_class.Options(basis="def2-svp", grid_level=0)
    engine = engine_class(options, charge=0, spin=0)
    engine.open(Atoms("HI", [[0, 0, 0], [0, 0, 1.6]]), tmp_path)
    assert engine._molecule.nelectron == 26
    assert orbitals.numbers_of(engine._molecule).tolist() == [1, 53]
    engine.open(molecule("H2O"), tmp_path)
    assert engine._molecule.nelectron == 10

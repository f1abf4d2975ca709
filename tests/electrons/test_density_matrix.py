"""Density matrices of random Hamiltonians, exact and approximate."""

import numpy as np
import pytest
import scipy.linalg

from otf.electrons import density_matrix as dm


@pytest.fixture
def problem():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 12, 12))
    hamiltonian, overlap = a + a.T, np.eye(12) + 0.02 * b @ b.T
    return hamiltonian, overlap, dm.of_hamiltonian(hamiltonian, overlap, 8.0)


def test_a_density_matrix_is_a_projector_onto_the_lowest_orbitals(problem):
    hamiltonian, overlap, density = problem
    np.testing.assert_allclose(density @ overlap @ density, 2.0 * density, atol=1e-12)
    assert np.vdot(density, overlap) == pytest.approx(8.0)
    energies = scipy.linalg.eigh(hamiltonian, overlap, eigvals_only=True)
    assert np.vdot(density, hamiltonian) == pytest.approx(2.0 * energies[:4].sum())


def test_purification_squares_the_error(problem):
    _, overlap, density = problem
    noise = np.random.default_rng(1).normal(size=density.shape)
    errors = []
    for size in (1e-3, 1e-4):
        once = dm.purified(density + size * (noise + noise.T), overlap, times=1)
        errors.append(np.abs(once @ overlap @ once - 2.0 * once).max())
    assert errors[0] < 1e-3
    assert errors[1] < 0.02 * errors[0]


def test_the_energy_density_matrix_is_that_of_the_orbital_energies(problem):
    hamiltonian, overlap, density = problem
    energies, orbitals = scipy.linalg.eigh(hamiltonian, overlap)
    expected = 2.0 * (orbitals[:, :4] * energies[:4]) @ orbitals[:, :4].T
    np.testing.assert_allclose(dm.energy_density(density, hamiltonian), expected, atol=1e-11)


def test_a_known_overlap_gives_its_own_density_matrix(problem):
    hamiltonian, overlap, density = problem
    other = overlap + 0.1 * np.diag(np.arange(12.0))
    densities = [density, dm.of_hamiltonian(hamiltonian, other, 8.0)]
    found = dm.extrapolated([overlap, other], densities, overlap)
    np.testing.assert_allclose(found, density, atol=1e-10)


def test_what_cannot_be_is_refused(problem):
    hamiltonian, overlap, _ = problem
    with pytest.raises(ValueError, match="cannot be paired"):
        dm.of_hamiltonian(hamiltonian, overlap, 7.0)
    with pytest.raises(ValueError, match="positive definite"):
        dm.of_hamiltonian(hamiltonian, -overlap, 8.0)

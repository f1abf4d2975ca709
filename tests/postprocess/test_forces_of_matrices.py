"""Forces of learned Hamiltonians, beside those of a tight-binding crystal in closed form."""

import numpy as np
import pytest
from ase import Atoms

from otf.electrons import bloch
from otf.electrons.environment import neighbours, vectors_of
from otf.engines.labels import Labels
from otf.engines.protocol import ForceCheck
from otf.errors import RunError
from otf.io.matrices import LabelMatrices, write_matrices
from otf.orbitals.block_matrices import BlockMatrix, Matrices, Pairs
from otf.postprocess.electronic.learned_matrices import learn_from
from otf.postprocess.phonons import ForcesOfMatrices

SIDE_A = 2.4
CUTOFF_A = 2.35
KPOINTS = bloch.grid((2, 2, 2), (0.0, 0.0, 0.0))
SHELLS = {1: (0,), 3: (0,)}


def crystal(seed: int, size: float) -> Atoms:
    """Two species in the CsCl structure, displaced."""
    atoms = Atoms("LiH", [[0, 0, 0], [SIDE_A / 2] * 3], cell=[SIDE_A] * 3, pbc=True)
    atoms.positions += np.random.default_rng(seed).normal(scale=size, size=(2, 3))
    return atoms


class TightBinding:
    """One s orbital per atom, -exp(-r) between unlike neighbours, orthogonal orbitals."""

    kind = "tight binding"
    gives_matrices = True
    gives_forces = True

    def __init__(self):
        self._latest = None
        self.diagonalised = 0

    @staticmethod
    def matrices_of(atoms: Atoms) -> Matrices:
        first, second, shifts = neighbours(atoms, CUTOFF_A)
        n = np.arange(len(atoms))
        pairs = Pairs(
            np.concatenate([n, first]),
            np.concatenate([n, second]),
            np.concatenate([np.zeros((len(n), 3), dtype=int), shifts]),
        )
        r = np.linalg.norm(vectors_of(atoms, first, second, shifts), axis=1)
        on_site = np.where(atoms.numbers == 3, 1.0, -1.0)
        blank = BlockMatrix(np.asarray(atoms.numbers), SHELLS, pairs, np.empty(0))
        hamiltonian = blank.with_values(np.concatenate([on_site, -np.exp(-r)]))
        overlap = blank.with_values(np.concatenate([np.ones(len(n)), 0.0 * r]))
        density = bloch.density_of(hamiltonian, overlap, 2.0, KPOINTS, 0.05)
        return Matrices(hamiltonian, overlap, density, 2.0, np.ones(2), KPOINTS, 0.05)

    @staticmethod
    def forces_of(atoms: Atoms, density: BlockMatrix) -> np.ndarray:
        pairs = density.pairs
        vectors = vectors_of(atoms, pairs.first, pairs.second, pairs.shifts)
        r = np.linalg.norm(vectors, axis=1)
        near = (r > 0.0) & (r < CUTOFF_A)
        pull = np.where(near, density.values * np.exp(-r), 0.0)[:, None]
        pull = pull * vectors / np.maximum(r, 1e-9)[:, None]
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, pairs.first, pull)
        np.add.at(forces, pairs.second, -pull)
        return forces

    def label(self, atoms, *, index, remedies=(), guess=None):
        self._latest = self.matrices_of(atoms)
        return Labels(0.0, self.forces_of(atoms, self._latest.density))

    def matrices(self):
        return self._latest if self.gives_matrices else None

    def check_forces(self, atoms, *, index, guess=None):
        self.diagonalised += 1
        if not self.gives_forces:
            return None
        return ForceCheck(self.forces_of(atoms, guess.density_matrix), 0.0)


@pytest.fixture
def source(tmp_path):
    for k in range(12):
        atoms = crystal(k, 0.08)
        label = LabelMatrices(atoms, TightBinding.matrices_of(atoms), "scratch", 5, {})
        write_matrices(tmp_path / f"matrices/{k:06d}.h5", label)
    return learn_from(tmp_path)


def test_forces_of_learned_hamiltonians_are_those_of_the_crystal(source):
    engine = TightBinding()
    forces = ForcesOfMatrices(engine, source)
    at_rest = crystal(100, 0.05)
    before = engine.forces_of(at_rest, engine.matrices_of(at_rest).density)
    np.testing.assert_array_equal(forces(at_rest), before)
    for seed in range(3):
        moved = at_rest.copy()
        moved.positions += np.random.default_rng(seed).normal(scale=0.01, size=(2, 3))
        true = engine.forces_of(moved, engine.matrices_of(moved).density)
        assert np.abs(forces(moved) - true).max() < 0.02 * np.abs(true - before).max()
    assert engine.diagonalised == 3


def test_forces_are_the_derivative_of_the_band_energy():
    """The crystal of these tests is consistent."""
    atoms = crystal(3, 0.05)

    def energy(displaced):
        m = TightBinding.matrices_of(displaced)
        levels, weights = bloch.levels(m.hamiltonian, m.overlap, KPOINTS)
        return 2.0 * float(weights @ levels[:, 0])  # the gap is far wider than the smearing

    step, found = 1e-4, np.zeros((2, 3))
    for k in range(6):
        sides = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions[divmod(k, 3)] += sign * step
            sides.append(energy(moved))
        found[divmod(k, 3)] = (sides[1] - sides[0]) / (2.0 * step)
    true = TightBinding.forces_of(atoms, TightBinding.matrices_of(atoms).density)
    np.testing.assert_allclose(true, found, atol=1e-6)


@pytest.mark.parametrize(
    ("missing", "message"), [("gives_matrices", "gave no matrices"), ("gives_forces", "no forces")]
)
def test_an_engine_that_cannot_do_it_is_named(source, missing, message):
    engine = TightBinding()
    setattr(engine, missing, False)
    forces = ForcesOfMatrices(engine, source)
    if missing == "gives_forces":
        forces(crystal(1, 0.05))  # a label
    with pytest.raises(RunError, match=message):
        forces(crystal(1, 0.05))

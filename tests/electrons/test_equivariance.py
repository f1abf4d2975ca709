"""Equivariance of learned matrices under rotation, for any training data."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from otf.electrons.bond_features import BondFeatures, frames, from_weights, to_weights, turned
from otf.electrons.environment import Reach, moments
from otf.electrons.harmonics import coupling, harmonics, rotation_matrices
from otf.electrons.matrix_features import Description
from otf.electrons.matrix_model import MatrixModel
from otf.electrons.site_features import SiteFeatures, from_tensors, to_tensors
from otf.orbitals.block_matrices import BlockMatrix, width

SHELLS = {1: (0, 0, 1), 8: (0, 1, 1, 2)}
SMALL = Description(
    around=Reach(2, 0.4, 5.0), l_max=4, bond=Reach(3, 0.4, 5.0), site_budget=4, bond_budget=3
)
seeds = st.integers(0, 2**31)


def rotation(rng: np.random.Generator) -> np.ndarray:
    """A random rotation, proper or improper."""
    return Rotation.random(random_state=int(rng.integers(2**31))).as_matrix() * rng.choice([-1, 1])


def structure(rng: np.random.Generator, symbols: str = "OH2OH", *, cell: float = 0.0) -> Atoms:
    grid = np.array([[0, 0, 0], [1, 0.3, 0], [0, 1.1, 0.2], [2.1, 1, 1], [1, 2.2, 0.5]])
    atoms = Atoms(symbols, grid + rng.normal(scale=0.1, size=(5, 3)))
    if cell:
        atoms.set_cell(cell * np.eye(3) + rng.normal(scale=0.1, size=(3, 3)))
        atoms.pbc = True
    return atoms


def taught(model: MatrixModel, atoms: Atoms, rng: np.random.Generator) -> None:
    """Train on random matrices: the symmetry must not come from the labels."""
    pairs = model.pairs(atoms)
    blank = BlockMatrix(atoms.numbers, model.shells, pairs, np.empty(0))
    size = int((blank.widths[pairs.first] * blank.widths[pairs.second]).sum())
    model.learn(atoms, {name: blank.with_values(rng.normal(size=size)) for name in model.names})


def whole_rotation(matrix: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Rotation matrix of the orbitals of all atoms."""
    each = rotation_matrices(matrix[None], 2)
    degrees = [degree for z in numbers for degree in SHELLS[int(z)]]
    out = np.zeros((sum(2 * d + 1 for d in degrees),) * 2)
    at = 0
    for degree in degrees:
        span = slice(at, at + 2 * degree + 1)
        out[span, span] = each[degree][0]
        at = span.stop
    return out


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(3)
    model = MatrixModel(SHELLS, ("a", "b"), SMALL)
    for _ in range(3):
        taught(model, structure(rng), rng)
    return model


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_matrices_turn_with_the_structure(model, seed):
    rng = np.random.default_rng(seed)
    atoms, turn = structure(rng), rotation(rng)
    moved = atoms.copy()
    moved.positions = atoms.positions @ turn.T + rng.normal(size=3)
    d = whole_rotation(turn, atoms.numbers)
    here, there = model.predict(atoms), model.predict(moved)
    for name in model.names:
        dense = here[name].dense()
        np.testing.assert_allclose(
            there[name].dense(), d @ dense @ d.T, rtol=0, atol=1e-10 * np.abs(dense).max()
        )
        np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-12 * np.abs(dense).max())


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_like_atoms_have_no_numbers(model, seed):
    rng = np.random.default_rng(seed)
    atoms = structure(rng)
    order = rng.permutation(len(atoms))
    widths = np.array([width(SHELLS[int(z)]) for z in atoms.numbers])
    ends = np.cumsum(widths)
    orbitals = np.concatenate([np.arange(ends[i] - widths[i], ends[i]) for i in order])
    here, there = model.predict(atoms)["a"].dense(), model.predict(atoms[order])["a"].dense()
    np.testing.assert_allclose(
        there, here[np.ix_(orbitals, orbitals)], rtol=0, atol=1e-10 * np.abs(here).max()
    )


def test_a_crystal_is_the_same_in_a_larger_cell(model):
    """Blocks between cells are assigned to the correct cells."""
    rng = np.random.default_rng(5)
    atoms = structure(rng, cell=4.0)
    double = atoms.repeat((2, 1, 1))
    energies = [np.linalg.eigvalsh(model.predict(a)["a"].dense()) for a in (atoms, double)]
    small, large = energies
    assert len(large) == 2 * len(small)
    for value in small:  # Gamma of the small cell folds onto Gamma of the large one
        assert np.abs(large - value).min() < 1e-9 * np.abs(small).max()


def test_what_is_far_away_does_not_matter_and_comes_in_smoothly(model):
    atoms = structure(np.random.default_rng(8))[[0, 1, 2, 3]]
    rightmost = atoms.positions[np.argmax(atoms.positions[:3, 0])].copy()
    size = sum(width(SHELLS[int(z)]) for z in atoms.numbers[:3])

    def block(distance: float) -> np.ndarray:
        atoms.positions[3] = rightmost + np.array([distance, 0, 0])  # others are farther away
        return np.asarray(model.predict(atoms)["a"].dense()[:size, :size])

    away = block(20.0)
    scale = np.abs(away).max()
    assert np.abs(block(5.001) - away).max() < 1e-12 * scale
    steps = [np.abs(block(5.0 - d) - away).max() for d in (0.01, 0.02)]
    assert steps[1] < 1e-3 * scale
    assert steps[1] > 5.0 * steps[0]  # like the third power of the distance to the cutoff


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_blocks_survive_being_taken_apart(seed):
    rng = np.random.default_rng(seed)
    rows, columns = SHELLS[8], SHELLS[1]
    site = rng.normal(size=(3, width(rows), width(rows)))
    np.testing.assert_allclose(from_tensors(to_tensors(site, rows), rows), site, atol=1e-13)
    bond = rng.normal(size=(3, width(rows), width(columns)))
    np.testing.assert_allclose(
        from_weights(to_weights(bond, rows, columns), rows, columns), bond, atol=1e-13
    )
    turns = rotation_matrices(frames(rng.normal(size=(3, 3))), 2)
    there = turned(bond, turns, rows, columns)
    np.testing.assert_allclose(turned(there, turns, rows, columns, back=True), bond, atol=1e-12)


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_numbers_of_a_bond_turn_about_it_by_their_weight(seed):
    rng = np.random.default_rng(seed)
    phi = rng.uniform(0, 2 * np.pi)
    shells = SHELLS[8]
    block = rng.normal(size=(1, width(shells), width(shells)))
    about_z = Rotation.from_euler("z", phi).as_matrix()
    mirror = np.diag([1.0, -1.0, 1.0])
    before = to_weights(block, shells, shells)
    after = to_weights(
        turned(block, rotation_matrices(about_z[None], 2), shells, shells), shells, shells
    )
    other = to_weights(
        turned(block, rotation_matrices(mirror[None], 2), shells, shells), shells, shells
    )
    for weight, numbers in before.items():
        m = 0 if weight == "odd" else weight
        np.testing.assert_allclose(after[weight], np.exp(1j * m * phi) * numbers, atol=1e-12)
        np.testing.assert_allclose(other[weight], numbers.conj(), atol=1e-12)


@pytest.mark.parametrize(("l1", "l2"), [(0, 0), (1, 1), (1, 2), (2, 2), (2, 3), (4, 3)])
def test_couplings_are_complete_and_turn(l1, l2):
    degrees = range(abs(l1 - l2), l1 + l2 + 1)
    rows = np.concatenate([coupling(l1, l2, d).reshape(2 * d + 1, -1) for d in degrees])
    np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-13)
    turn = rotation(np.random.default_rng(1))
    odd = np.linalg.det(turn) < 0
    each = [d[0] for d in rotation_matrices(turn[None], l1 + l2)]
    for degree in degrees:
        c = coupling(l1, l2, degree)
        sign = (-1) ** (l1 + l2 + degree) if odd else 1
        np.testing.assert_allclose(
            np.einsum("apq,px,qy->axy", c, each[l1], each[l2]),
            sign * np.einsum("ab,bxy->axy", each[degree], c),
            atol=1e-12,
        )


def test_rotations_are_those_of_the_harmonics():
    rng = np.random.default_rng(2)
    turn, points = rotation(rng), rng.normal(size=(7, 3))
    points /= np.linalg.norm(points, axis=1)[:, None]
    before, after = harmonics(points, 4), harmonics(points @ turn.T, 4)
    for degree, matrix in enumerate(rotation_matrices(turn[None], 4)):
        span = slice(degree * degree, (degree + 1) ** 2)
        np.testing.assert_allclose(after[:, span], before[:, span] @ matrix[0].T, atol=1e-13)


def test_rotations_of_high_degree_are_orthogonal():
    for matrix in rotation_matrices(rotation(np.random.default_rng(4))[None], 12):
        np.testing.assert_allclose(matrix[0] @ matrix[0].T, np.eye(len(matrix[0])), atol=1e-9)


def test_every_feature_has_a_degree():
    atoms = molecule("CH3OH")
    description = Description(l_max=4)
    around = moments(atoms, (1, 6, 8), description.around, 4)
    site = SiteFeatures(3, description.around.count, 4, 5)
    for kind in ((0, 1), (1, 1), (2, 1), (1, -1), (3, -1), (8, 1)):
        degrees = site.degrees(kind)
        assert len(degrees) == site.of(around, kind).shape[2]
        assert (degrees >= 0).all()
    bond = BondFeatures(description.bond.count, 3, description.around.count, 4, 3)
    n_moments = 2 * 3 * description.around.count * 15
    blank = np.zeros((1, n_moments), dtype=complex)
    for weight in (0, "odd", 1, 2):
        rows = bond.of(np.zeros((1, description.bond.count)), blank, weight)
        assert len(bond.degrees(weight)) == rows.shape[1]


def test_bonds_as_long_as_the_cutoff_have_both_directions_or_none():
    model = MatrixModel({1: (0,)}, ("a",))
    rng = np.random.default_rng(0)
    for _ in range(20):
        atoms = Atoms("H2", rng.uniform(0, 2, (2, 3)), cell=[2.0] * 3, pbc=True)
        pairs = model.pairs(atoms)
        keys = np.column_stack([pairs.first, pairs.second, pairs.shifts])
        turned_keys = np.column_stack([pairs.second, pairs.first, -pairs.shifts])
        assert {tuple(k) for k in keys.tolist()} == {tuple(k) for k in turned_keys.tolist()}

"""The neighbour list compared with a loop over all images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otf.kernels.neighbours import neighbour_list
from tests.oracles.slow_descriptor import pairs

CELLS = {
    "cubic": 4.0 * np.eye(3),
    "tiny": 1.7 * np.eye(3),
    "flat": np.diag([2.0, 9.0, 5.0]),
    "triclinic": np.array([[4.0, 0.3, -0.2], [1.9, 3.5, 0.4], [-1.5, 1.2, 4.2]]),
    "left-handed": np.array([[0.0, 4.0, 0.1], [4.2, 0.0, 0.3], [0.2, 0.4, 5.0]]),
    "sheared": np.array([[3.0, 0.0, 0.0], [2.9, 3.0, 0.0], [0.0, 2.9, 3.0]]),
}


def listed(positions, cell, pbc, cutoff):
    first, index, shift = neighbour_list(
        positions, cell, np.linalg.inv(cell), np.array(pbc, dtype=np.int64), cutoff
    )
    centre = np.repeat(np.arange(len(positions)), np.diff(first))
    vectors = positions[index] - positions[centre] + shift @ cell
    return centre, index, shift, vectors


def as_set(centre, index, vectors):
    return sorted((int(i), int(j), *np.round(v, 8)) for i, j, v in zip(centre, index, vectors))


@pytest.mark.parametrize("name", CELLS)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 9),
    pbc=st.tuples(*[st.booleans()] * 3),
    cutoff=st.floats(1.0, 5.5),
)
def test_list_equals_brute_force(name, seed, n, pbc, cutoff):
    cell = CELLS[name]
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-1.0, 2.0, (n, 3)) @ cell  # not wrapped
    centre, index, _, vectors = listed(positions, cell, pbc, cutoff)
    slow = pairs(positions, cell, pbc, cutoff)
    expected = as_set(*zip(*slow)) if slow else []
    assert as_set(centre, index, vectors) == expected


def test_many_bins_equal_brute_force():
    rng = np.random.default_rng(0)
    cell = np.array([[14.0, 0, 0], [3.0, 13.0, 0], [1.0, -2.0, 15.0]])
    positions = rng.uniform(0, 1, (120, 3)) @ cell
    centre, index, _, vectors = listed(positions, cell, (True, True, False), 3.1)
    assert as_set(centre, index, vectors) == as_set(*zip(*pairs(positions, cell, (1, 1, 0), 3.1)))


def test_rows_are_sorted_whatever_the_order_of_discovery():
    rng = np.random.default_rng(1)
    positions = rng.uniform(0, 4, (8, 3))
    centre, index, shift, _ = listed(positions, CELLS["cubic"], (True,) * 3, 4.5)
    keys = [tuple(k) for k in np.column_stack([centre, index, shift])]
    assert keys == sorted(keys)


def test_atoms_that_have_travelled_far_keep_their_neighbours():
    rng = np.random.default_rng(1)
    cell, periodic = CELLS["triclinic"], (True,) * 3
    positions = rng.uniform(0, 1, (8, 3)) @ cell
    far = positions + rng.integers(-9000, 9000, size=(8, 3)) @ cell
    near, found = (listed(p, cell, periodic, 3.1) for p in (positions, far))
    np.testing.assert_array_equal(near[0], found[0])
    np.testing.assert_array_equal(near[1], found[1])
    # The images of one neighbour are in the order of their shifts, which another one begins.
    lengths = [sorted(np.linalg.norm(v, axis=1).round(6)) for v in (near[3], found[3])]
    np.testing.assert_allclose(lengths[0], lengths[1], atol=2e-6)

"""Triangular factors and solutions against scipy."""

import numpy as np
import pytest
import scipy.linalg

from otf.model.triangular import back, cholesky, forward, solve


@pytest.mark.parametrize("order", ["C", "F"])
def test_factors_and_solutions_are_those_of_scipy(order):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(9, 9))
    matrix = np.array(root @ root.T + np.eye(9), order=order)
    expected = scipy.linalg.cholesky(matrix, lower=True)
    factor = cholesky(matrix.copy(order="K"))
    np.testing.assert_allclose(np.tril(factor), expected, rtol=1e-12)
    for shape in ((9,), (9, 1), (9, 4), (9, 0)):
        vectors = np.array(rng.normal(size=shape), order=order)
        kept = vectors.copy()
        found = forward(factor, vectors)
        np.testing.assert_allclose(expected @ found, vectors, atol=1e-12)
        np.testing.assert_allclose(expected.T @ back(factor, vectors), vectors, atol=1e-12)
        np.testing.assert_allclose(matrix @ solve(factor, vectors), vectors, atol=1e-11)
        assert (vectors == kept).all()


def test_no_factor_of_a_matrix_that_is_not_positive_definite():
    assert cholesky(np.diag([1.0, -1.0])) is None

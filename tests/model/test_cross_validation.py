"""Left-out errors against fits without the left-out rows."""

import numpy as np
import pytest

from otf.model.cross_validation import forward_errors, left_out_errors

STRENGTHS = np.array([1e-6, 1e-2, 1.0, 1e3])


def refitted(blocks, prior, strength):
    """Mean absolute left-out residual, by one fit for each block."""
    residuals = []
    for i, (rows, targets) in enumerate(blocks):
        x = np.concatenate([b[0] for j, b in enumerate(blocks) if j != i])
        y = np.concatenate([b[1] for j, b in enumerate(blocks) if j != i])
        theta = np.linalg.solve(x.T @ x + strength * np.diag(prior), x.T @ y)
        residuals.append(targets - rows @ theta)
    return np.abs(np.concatenate(residuals)).mean()


@pytest.mark.parametrize("columns", [5, 40, 200], ids=["few", "as-many", "dual"])
def test_equal_those_of_fits_without_the_block(columns):
    rng = np.random.default_rng(columns)
    prior = rng.uniform(0.5, 4.0, columns)
    blocks = [(rng.normal(size=(m, columns)), rng.normal(size=m)) for m in (7, 10, 12, 11)]
    expected = [refitted(blocks, prior, s) for s in STRENGTHS]
    np.testing.assert_allclose(left_out_errors(blocks, prior, STRENGTHS), expected, rtol=1e-4)


def predicted_in_order(blocks, prior, strength):
    """Mean absolute residual of the later half, by one fit to the blocks before each."""
    residuals = []
    for i in range(len(blocks) // 2, len(blocks)):
        x, y = (np.concatenate(parts) for parts in zip(*blocks[:i], strict=True))
        theta = np.linalg.solve(x.T @ x + strength * np.diag(prior), x.T @ y)
        residuals.append(blocks[i][1] - blocks[i][0] @ theta)
    return np.abs(np.concatenate(residuals)).mean()


@pytest.mark.parametrize("columns", [5, 40, 200], ids=["few", "as-many", "dual"])
def test_equal_those_of_fits_to_earlier_blocks(columns):
    rng = np.random.default_rng(columns)
    prior = rng.uniform(0.5, 4.0, columns)
    blocks = [(rng.normal(size=(m, columns)), rng.normal(size=m)) for m in (7, 10, 12, 11, 9)]
    expected = [predicted_in_order(blocks, prior, s) for s in STRENGTHS[1:]]
    np.testing.assert_allclose(forward_errors(blocks, prior, STRENGTHS[1:]), expected, rtol=1e-4)


def test_rows_that_are_all_alike_do_not_fail():
    rows = np.ones((3, 8))
    errors = left_out_errors([(rows, np.ones(3))] * 3, np.ones(8), STRENGTHS)
    assert errors[0] < 1e-6
    assert errors[-1] > 0.5

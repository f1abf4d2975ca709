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
    (error_at,) = left_out_errors(blocks, prior, [columns])
    np.testing.assert_allclose([error_at(s) for s in STRENGTHS], expected, rtol=1e-4)


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
    (error_at,) = forward_errors(blocks, prior, [columns])
    np.testing.assert_allclose([error_at(s) for s in STRENGTHS[1:]], expected, rtol=1e-4)


@pytest.mark.parametrize("errors_of", [left_out_errors, forward_errors])
@pytest.mark.parametrize("leading", [(5, 20), (20, 60), (60, 90)], ids=["few", "both", "dual"])
def test_orders_together_have_the_errors_of_each_alone(errors_of, leading):
    rng = np.random.default_rng(leading[0])
    prior = rng.uniform(0.5, 4.0, leading[1])
    blocks = [(rng.normal(size=(m, leading[1])), rng.normal(size=m)) for m in (7, 10, 12, 11, 9)]
    together = errors_of(blocks, prior, leading)
    for n, error_at in zip(leading, together, strict=True):
        (alone,) = errors_of([(x[:, :n], y) for x, y in blocks], prior[:n], [n])
        assert error_at(1.0) == pytest.approx(alone(1.0), rel=1e-9)


def test_rows_that_are_all_alike_do_not_fail():
    rows = np.ones((3, 8))
    (error_at,) = left_out_errors([(rows, np.ones(3))] * 3, np.ones(8), [8])
    assert error_at(STRENGTHS[0]) < 1e-6
    assert error_at(STRENGTHS[-1]) > 0.5

"""The solve, in both forms, compared with dense linear algebra on all rows at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otf.model.dual_equations import DualEquations
from otf.model.equations import scaled
from otf.model.normal_equations import NormalEquations

COLUMNS, ROWS = 7, 5
PRIOR = np.linspace(0.5, 2.0, COLUMNS)
ALL = COLUMNS


def data(snapshots: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=COLUMNS)
    rows = [rng.normal(size=(ROWS, COLUMNS)) for _ in range(snapshots)]
    return rows, [x @ truth + 0.3 * rng.normal(size=ROWS) for x in rows]


both_forms = pytest.mark.parametrize("form", [NormalEquations, DualEquations])


def streamed(rows, targets, forgetting=1.0, block_size=1, *, form=NormalEquations):
    equations = form(PRIOR)
    for i, (x, y) in enumerate(zip(rows, targets)):
        equations.add(x, y, block=i // block_size, forgetting=forgetting)
    return equations


def ridge(rows, targets, strength, weights=None, leading=ALL):
    weights = np.ones(len(rows)) if weights is None else weights
    x = np.concatenate([np.sqrt(w) * r for w, r in zip(weights, rows)])[:, :leading]
    y = np.concatenate([np.sqrt(w) * t for w, t in zip(weights, targets)])
    return np.linalg.solve(x.T @ x + strength * np.diag(PRIOR[:leading]), x.T @ y)


@both_forms
@given(snapshots=st.integers(1, 12), strength=st.floats(1e-4, 1e3), seed=st.integers(0, 99))
def test_streamed_equals_batch(form, snapshots, strength, seed):
    rows, targets = data(snapshots, seed)
    solution = streamed(rows, targets, form=form).solve(ALL, strength)
    np.testing.assert_allclose(solution.coefficients, ridge(rows, targets, strength), atol=1e-9)


@both_forms
@given(forgetting=st.floats(0.5, 1.0))
def test_forgetting_weighs_the_past(form, forgetting):
    rows, targets = data(6)
    weights = forgetting ** np.arange(5, -1, -1)
    solution = streamed(rows, targets, forgetting, form=form).solve(ALL, 0.1)
    np.testing.assert_allclose(solution.coefficients, ridge(rows, targets, 0.1, weights), atol=1e-9)


def test_prior_is_never_forgotten():
    rows, targets = data(1)
    equations = streamed(rows * 300, targets * 300, 0.8)
    silent = NormalEquations(PRIOR)
    for _ in range(300):  # rows along a single direction
        silent.add(np.eye(COLUMNS)[:1], np.ones(1), block=0, forgetting=0.8)
    assert np.abs(silent.solve(ALL, 0.1).coefficients[1:]).max() == 0.0
    assert silent.solve(ALL, 0.1).leverage(np.eye(COLUMNS)[1:2])[0] == pytest.approx(10 / PRIOR[1])
    assert np.isfinite(equations.solve(ALL, 0.1).coefficients).all()


@both_forms
def test_trailing_columns_are_zero_and_do_not_matter(form):
    rows, targets = data(8)
    theta = streamed(rows, targets, form=form).solve(3, 0.5).coefficients
    np.testing.assert_allclose(theta[:3], ridge(rows, targets, 0.5, leading=3), atol=1e-10)
    assert not theta[3:].any()


@both_forms
@pytest.mark.parametrize("forgetting", [1.0, 0.9])
@pytest.mark.parametrize("block_size", [1, 3])  # three snapshots have more rows than columns
def test_left_out_equals_refitting_without_the_block(form, forgetting, block_size):
    rows, targets = data(9)
    weights = forgetting ** np.arange(8, -1, -1)
    equations = streamed(rows, targets, forgetting, block_size, form=form)
    solution = equations.solve(ALL, 0.2)
    blocks = equations.blocks()
    assert len(blocks) == equations.n_blocks == 9 // block_size
    for b, block in enumerate(blocks):
        x, y = scaled(block)
        others = [i for i in range(9) if i // block_size != b]
        theta = ridge([rows[i] for i in others], [targets[i] for i in others], 0.2, weights[others])
        np.testing.assert_allclose(solution.left_out([block])[0], y - x @ theta, atol=1e-9)
    alone = [solution.left_out([block]) for block in blocks]
    for together, apart in zip(solution.left_out(blocks), zip(*alone)):
        np.testing.assert_allclose(together, np.concatenate(apart), atol=1e-12)


def test_many_right_hand_sides_are_left_out_one_like_the_other():
    rows, targets = data(5)
    many = NormalEquations(PRIOR, outputs=2)
    for block, (x, y) in enumerate(zip(rows, targets)):
        many.add(x, np.column_stack([y, 3.0 * y[::-1]]), block=block)
    found = many.solve(ALL, 0.2).left_out_residuals(many.blocks())
    for column, scale in ((0, 1), (1, -1)):
        one = NormalEquations(PRIOR)
        for block, (x, y) in enumerate(zip(rows, targets)):
            one.add(x, y if scale == 1 else 3.0 * y[::-1], block=block)
        direct, _ = one.solve(ALL, 0.2).left_out(one.blocks())
        np.testing.assert_allclose(found[:, column], direct, atol=1e-10)


@both_forms
@pytest.mark.parametrize("block_size", [1, 3])
def test_slopes_are_derivatives_by_the_logarithm_of_lambda(form, block_size):
    rows, targets = data(9)
    equations = streamed(rows, targets, 0.9, block_size, form=form)
    h = 1e-5
    here, *around = (equations.solve(ALL, 0.2 * np.exp(d)) for d in (0.0, h, -h))
    blocks = equations.blocks()
    plus, minus = (s.left_out(blocks)[0] for s in around)
    np.testing.assert_allclose(here.left_out(blocks)[1], (plus - minus) / (2 * h), atol=1e-7)
    plus, minus = (s.evidence() for s in around)
    assert here.evidence_slope() == pytest.approx((plus - minus) / (2 * h), abs=1e-6)


@both_forms
def test_evidence_slope_is_its_derivative_with_few_rows(form):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(6, 40)), rng.normal(size=6)
    equations = form(np.ones(40))
    equations.add(x, y, block=0)
    h = 1e-5
    plus, minus = (equations.solve(40, np.exp(d)).evidence() for d in (h, -h))
    slope = equations.solve(40, 1.0).evidence_slope()
    assert slope == pytest.approx((plus - minus) / (2 * h), abs=1e-6)


@both_forms
def test_the_last_solution_is_remembered_until_a_label_comes(form):
    rows, targets = data(4)
    equations = streamed(rows, targets, form=form)
    first = equations.solve(ALL, 0.2)
    assert equations.solve(ALL, 0.2) is first
    equations.add(rows[0], targets[0], block=4)
    assert equations.solve(ALL, 0.2) is not first


def test_memory_is_bounded_and_nothing_is_lost():
    rows, targets = data(30)
    equations = NormalEquations(PRIOR, keep_blocks=4)
    for i, (x, y) in enumerate(zip(rows, targets)):
        equations.add(x, y, block=i // 2)
    assert [s.block for s in equations.snapshots] == [11, 11, 12, 12, 13, 13, 14, 14]
    assert (equations.n_snapshots, equations.n_blocks, equations.weighted_rows) == (
        30,
        15,
        30 * ROWS,
    )
    theta = equations.solve(ALL, 0.1).coefficients
    np.testing.assert_allclose(theta, ridge(rows, targets, 0.1), atol=1e-9)


@both_forms
def test_evidence_is_the_marginal_likelihood(form):
    rows, targets = data(4)
    x, y = np.concatenate(rows), np.concatenate(targets)

    def direct(strength):
        """-2 log N(y; 0, s2 (1 + X (lambda Lambda)^-1 X^T)) at the optimal s2, up to a constant."""
        kernel = np.eye(len(y)) + x @ np.diag(1 / (strength * PRIOR)) @ x.T
        s2 = y @ np.linalg.solve(kernel, y) / len(y)
        return len(y) * np.log(s2) + np.linalg.slogdet(kernel)[1]

    equations = streamed(rows, targets, form=form)
    values = [equations.solve(ALL, s).evidence() for s in (0.01, 1.0, 100.0)]
    np.testing.assert_allclose(values, [direct(s) for s in (0.01, 1.0, 100.0)], rtol=1e-9)


@both_forms
@pytest.mark.parametrize("forgetting", [1.0, 0.9])
def test_left_out_leverage_is_that_of_the_others(form, forgetting):
    rows, targets = data(6)
    equations = streamed(rows, targets, forgetting, form=form)
    found = equations.solve(ALL, 0.3).left_out_leverage(equations.snapshots[2])
    weights = np.sqrt(forgetting ** np.arange(5, -1, -1))
    others = np.concatenate([w * x for i, (w, x) in enumerate(zip(weights, rows)) if i != 2])
    inverse = np.linalg.inv(others.T @ others + 0.3 * np.diag(PRIOR))
    direct = np.einsum("ij,jk,ik->i", rows[2], inverse, rows[2])
    np.testing.assert_allclose(found, direct, rtol=1e-8)


def test_forgetting_forgets_rows_in_every_mean():
    rows, targets = data(50)
    equations = streamed(rows, targets, 0.9)
    assert equations.weighted_rows == pytest.approx(ROWS / (1 - 0.9), rel=0.01)
    assert equations.weight() < equations.weighted_rows
    assert equations.weight(1) == ROWS


@both_forms
def test_leverage_is_the_posterior_variance(form):
    rows, targets = data(5)
    x = np.concatenate(rows)
    inverse = np.linalg.inv(x.T @ x + 0.3 * np.diag(PRIOR))
    probe = np.random.default_rng(9).normal(size=(4, COLUMNS))
    leverage = streamed(rows, targets, form=form).solve(ALL, 0.3).leverage(probe)
    np.testing.assert_allclose(leverage, np.einsum("ij,jk,ik->i", probe, inverse, probe), rtol=1e-9)


@both_forms
def test_samples_have_the_posterior_covariance(form):
    rows, targets = data(2)
    x = np.concatenate(rows)
    inverse = np.linalg.inv(x.T @ x + 0.3 * np.diag(PRIOR))
    samples = streamed(rows, targets, form=form).solve(ALL, 0.3).samples(20000)
    np.testing.assert_allclose(samples.T @ samples / 20000, inverse, atol=0.05 * inverse.max())


def test_unsolvable_is_none():
    equations = NormalEquations(np.full(3, 1e-300))  # times 1e-30: effectively no prior
    equations.add(np.array([[1.0, 1.0, 0.0]]), np.ones(1), block=0)
    assert equations.solve(3, 1e-30) is None

"""Ridge problems with a prior chosen by cross-validation over labels."""

import numpy as np

from otf.electrons.matrix_model import MatrixModel
from otf.electrons.ridge import RidgeProblem
from tests.electrons.test_equivariance import SHELLS, SMALL, structure, taught

DEGREES = np.repeat([0, 4, 8, 12], 10)
TRUTH = np.where(DEGREES[:, None] == 0, np.random.default_rng(0).normal(size=(40, 2)), 0.0)


def labels(count: int, *, noise: float):
    """Rows and targets of two matrices, from coarse features; the second has noise."""
    rng = np.random.default_rng(4)
    for _ in range(count):
        rows = rng.normal(size=(4, len(DEGREES)))
        yield rows, rows @ TRUTH + noise * rng.normal(size=(4, 2)) * [0.0, 1.0]


def learned(count: int, *, choose: bool) -> np.ndarray:
    """Errors of the prediction for unseen rows."""
    problem = RidgeProblem(DEGREES, 2)
    for index, (rows, targets) in enumerate(labels(count, noise=0.3)):
        problem.add(rows, targets, index)
    if choose:
        problem.choose()
    probe = np.random.default_rng(5).normal(size=(50, len(DEGREES)))
    return problem.predict(probe) - probe @ TRUTH


def test_a_noisy_matrix_gets_a_stronger_prior_and_one_without_noise_keeps_a_weak_one():
    usual, chosen = (np.abs(learned(9, choose=c)).mean(axis=0) for c in (False, True))
    assert chosen[0] < 1e-5
    assert chosen[1] < 0.5 * usual[1]


def test_too_few_labels_choose_nothing():
    np.testing.assert_array_equal(learned(2, choose=True), learned(2, choose=False))


def test_predictions_in_between_change_nothing():
    """A resumed run learns all labels at once, the interrupted one with predictions in between."""
    at_once, step_by_step = (MatrixModel(SHELLS, ("a", "b"), SMALL) for _ in range(2))
    for model, looks in ((at_once, False), (step_by_step, True)):
        rng = np.random.default_rng(8)
        for _ in range(6):
            atoms = structure(rng)
            taught(model, atoms, rng)
            if looks:
                model.predict(atoms)
    probe = structure(np.random.default_rng(9))
    one, other = (m.predict(probe)["b"].values for m in (at_once, step_by_step))
    np.testing.assert_array_equal(one, other)

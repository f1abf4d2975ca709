"""Statistics from labels: the verdict on the target."""

import numpy as np
import pytest

from otf.driver.records import LabelRecord
from otf.driver.statistics import Contract, trajectory_error


def label(index: int, mae_meV_A: float, *, elapsed: int = 10, reason: str = "scheduled", **more):
    values = {
        "index": index,
        "step": 10 * index,
        "reason": reason,
        "elapsed": elapsed,
        "force_mae": 1e-3 * mae_meV_A,
        "force_p95": 2e-3 * mae_meV_A,
        "force_max": 0.0,
        "predicted": 0.0,
        "energy_error": 0.0,
        "wall_s": 1.0,
        "scf_iterations": None,
        "order": 1,
        "strength": 1.0,
        "coverage": 0.95,
        "size": "",
    }
    return LabelRecord(**(values | more))


def audits(errors, *, stands_for=10.0):
    """The history of segments that err by much at their ends, each with an audit."""
    history = []
    for error in errors:
        history.append(label(len(history), 200.0))
        history.append(label(len(history), error, reason="audit", stands_for=stands_for))
    return tuple(history)


def verdict(history, target=20.0):
    return Contract(target, trajectory_error(history, confidence_percent=95.0))


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([9, 11, 10, 12, 8], "kept"),
        ([29, 31, 30, 32, 28], "broken"),
        ([5, 40, 10, 35, 8], "undecided"),
    ],
)
def test_verdict_is_about_the_committed_trajectory(errors, expected):
    found = verdict(audits(errors))
    assert found.verdict == expected
    assert found.error.force_mae_meV_A == pytest.approx(np.mean(errors))
    assert found.error.force_p95_meV_A == pytest.approx(2 * np.mean(errors))
    assert found.error.low_meV_A < found.error.force_mae_meV_A < found.error.high_meV_A
    assert ("NOT kept" in found.in_words()) == (expected == "broken")


def test_audits_count_by_the_steps_they_stand_for():
    history = audits([10, 10], stands_for=45.0) + audits([40, 40], stands_for=5.0)
    error = trajectory_error(history, confidence_percent=95.0)
    assert error.force_mae_meV_A == pytest.approx(13.0)
    assert error.audits == 4


def test_nothing_is_claimed_with_few_audits():
    assert trajectory_error((), confidence_percent=95.0) is None
    assert trajectory_error(audits([10, 10]), confidence_percent=95.0) is None


def test_interval_holds_the_mean_of_unequal_segments_as_often_as_it_says():
    """Segments are drawn by their lengths, long ones err by more, and every step by its own."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        lengths = rng.choice([5.0, 50.0, 200.0], p=[0.5, 0.4, 0.1], size=150)
        errors = rng.gamma(4.0, 0.25, size=150) * np.sqrt(lengths)
        share = np.minimum(1.0, 0.2 * lengths / lengths.mean())
        at_steps = errors * rng.gamma(2.0, 0.5, size=150)
        history = [
            label(i, at_steps[i], reason="audit", stands_for=lengths[i] / share[i])
            for i in np.flatnonzero(rng.random(150) < share)
        ]
        error = trajectory_error(tuple(history), confidence_percent=95.0)
        held += error.low_meV_A <= lengths @ errors / lengths.sum() <= error.high_meV_A
    assert 0.86 < held / 400 < 0.99

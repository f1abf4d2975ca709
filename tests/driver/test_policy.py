"""The switch between engine and model, by tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otf.driver.policy import AdaptivePolicy, FixedPolicy, PolicyState

ADAPTIVE = AdaptivePolicy(target=0.020, gap_max=100, guard=3.0, guard_every=10)
NAN = float("nan")

TABLE = [
    # gap, error, elapsed, reason -> gap, by_engine
    (1.0, NAN, 0, "start", 1.0, True),
    (1.0, 0.100, 1, "start", 1.0, True),  # too large: stay with the engine
    (1.0, 0.010, 1, "start", 1.5, True),
    (1.5, 0.010, 1, "start", 2.25, False),  # the model takes over
    (10.0, 0.020, 10, "scheduled", 10.0, False),
    (10.0, 0.001, 10, "scheduled", 15.0, False),  # never more than half as much again
    (10.0, 0.025, 10, "scheduled", 6.4, False),
    (10.0, 1.000, 10, "scheduled", 3.0, False),  # never less than 0.3
    (90.0, 0.001, 90, "scheduled", 100.0, False),
    (3.0, 0.500, 3, "scheduled", 1.0, True),  # back to the engine
    (50.0, 0.010, 20, "guard", 50.0, False),  # false alarm
    (50.0, 0.025, 20, "guard", 12.8, False),  # the guard was right: from where it fired
    (50.0, 0.500, 20, "explosion", 6.0, False),
    (50.0, 0.0, 50, "end", 75.0, False),
]


@pytest.mark.parametrize(("gap", "error", "elapsed", "reason", "next_gap", "by_engine"), TABLE)
def test_adaptive(gap, error, elapsed, reason, next_gap, by_engine):
    state = PolicyState(gap, gap < 2)
    after = ADAPTIVE.after_label(state, step=500, error=error, elapsed=elapsed, reason=reason)
    assert after.gap == pytest.approx(next_gap)
    assert after.by_engine is by_engine


@given(
    gap=st.floats(1, 100),
    error=st.floats(0, 10) | st.just(NAN),
    elapsed=st.integers(1, 100),
    reason=st.sampled_from(["start", "scheduled", "guard", "end", "explosion"]),
)
def test_adaptive_stays_in_bounds(gap, error, elapsed, reason):
    state = PolicyState(gap, gap < 2)
    after = ADAPTIVE.after_label(state, step=1, error=error, elapsed=elapsed, reason=reason)
    assert 1.0 <= after.gap <= 100.0
    assert after.by_engine == (after.gap < 2.0)
    assert after.steps >= 1


@pytest.mark.parametrize(
    ("predicted", "fires"), [(0.0, False), (0.06, False), (0.061, True), (float("inf"), True)]
)
def test_guard(predicted, fires):
    assert ADAPTIVE.guard_fires(predicted) is fires
    assert ADAPTIVE.guard_fires(NAN) is True
    assert FixedPolicy(10, 5).guard_fires(predicted) is False


def test_fixed_is_the_talks_schedule():
    policy = FixedPolicy(train_steps=3, every=7)
    state = PolicyState()
    gaps = []
    for step in (0, 1, 2, 3, 10, 17):
        state = policy.after_label(state, step=step, error=9.9, elapsed=1, reason="scheduled")
        gaps.append((state.steps, state.by_engine))
    assert gaps == [(1, True)] * 3 + [(7, False)] * 3

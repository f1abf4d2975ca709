"""Tables of decisions of the policies."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otf.driver.adaptive_policy import AdaptivePolicy, unreachable
from otf.driver.policy import FixedPolicy, LabelError, PolicyState, drawn_audit, planned

ADAPTIVE = AdaptivePolicy(target=0.020, gap_max=100, guard=3.0, guard_every=10)
NAN = float("nan")

AIM = 0.75 * ADAPTIVE.target / 0.6  # before any audit

TABLE = [
    # gap, error in units of the aim, elapsed, reason -> gap, by_engine
    (1.0, NAN, 0, "start", 1.0, True),
    (1.0, 5.0, 1, "start", 1.0, True),  # too large: the engine continues
    (1.0, 0.75, 1, "start", 16 / 9, True),
    (1.5, 0.5, 1, "start", 4.5, False),  # the model takes over
    (10.0, 1.0, 10, "scheduled", 10.0, False),
    (10.0, 0.5, 10, "scheduled", 30.0, False),  # factor 3 at most,
    (10.0, 0.05, 10, "scheduled", 50.0, False),  # 5 where the error is harmless
    (10.0, 1.25, 10, "scheduled", 6.4, False),
    (10.0, 50.0, 10, "scheduled", 3.0, False),  # factor 0.3 at least
    (90.0, 0.05, 90, "scheduled", 100.0, False),
    (3.0, 25.0, 3, "scheduled", 1.0, True),  # back to the engine
    (50.0, 0.5, 20, "guard", 50.0, False),  # false alarm
    (50.0, 1.25, 20, "guard", 12.8, False),  # true alarm: scaled from the steps elapsed
    (50.0, 25.0, 20, "explosion", 6.0, False),
    (30.0, 0.5, 30, "end", 90.0, False),
]


@pytest.mark.parametrize(("gap", "error", "elapsed", "reason", "next_gap", "by_engine"), TABLE)
def test_adaptive(gap, error, elapsed, reason, next_gap, by_engine):
    state = PolicyState(gap, gap < 2)
    after = after_label(
        ADAPTIVE, state, step=500, error=AIM * error, elapsed=elapsed, reason=reason
    )
    assert after.gap == pytest.approx(next_gap)
    assert after.by_engine is by_engine


@given(
    gap=st.floats(1, 100),
    error=st.floats(0, 10) | st.just(NAN),
    elapsed=st.integers(1, 100),
    reason=st.sampled_from(["start", "scheduled", "audit", "guard", "end", "explosion"]),
)
def test_adaptive_stays_in_bounds(gap, error, elapsed, reason):
    state = PolicyState(gap, gap < 2, errors=(0.1,))
    after = after_label(ADAPTIVE, state, step=1, error=error, elapsed=elapsed, reason=reason)
    assert 1.0 <= after.gap <= 100.0
    assert after.by_engine == (after.gap < 2.0)
    assert after.steps >= 1


@pytest.mark.parametrize(
    ("predicted", "fires"),
    [(0.0, False), (2.99 * AIM, False), (3.01 * AIM, True), (float("inf"), True)],
)
def test_guard(predicted, fires):
    state = PolicyState(20.0, False)
    assert ADAPTIVE.guard_fires(state, predicted, step=100) is fires
    assert ADAPTIVE.guard_fires(state, NAN, step=100) is True
    assert FixedPolicy(10, 5).guard_fires(state, predicted, step=100) is False


def after_label(policy, state, **label):
    return policy.after_label(state, LabelError(**label))


def after(policy, count, *, error, elapsed=1, reason="start", state=None, **more):
    """The state after a number of equal labels."""
    state = state or PolicyState()
    for step in range(1, count + 1):
        state = after_label(
            policy, state, step=step * elapsed, error=error, elapsed=elapsed, reason=reason, **more
        )
    return state


def test_error_right_after_labels_is_accepted_where_the_target_cannot_be_reached():
    assert after(ADAPTIVE, 5, error=0.05).accepted == 0.0
    state = after(ADAPTIVE, 6, error=0.05)
    assert state.accepted == pytest.approx(1.5 * 0.6 * 0.05)
    assert not after(ADAPTIVE, 9, error=0.05, state=state).by_engine  # not every step any more
    better = after(ADAPTIVE, 6, error=0.01, elapsed=30, reason="scheduled", state=state)
    assert better.accepted == 0.0  # the model has grown
    leave = replace(ADAPTIVE, unreachable="engine")
    assert after(leave, 20, error=0.05) == replace(
        after(leave, 6, error=0.05), gap=1.0, by_engine=True, mean_length=20.0, driven=20
    )


def test_labels_do_not_take_over_a_run_whose_target_cannot_be_reached():
    """Noise of the engine that no model has: a gap of one step would not help."""
    state = after(ADAPTIVE, 6, error=0.05)
    assert state.accepted > 0.0
    for n_labels, least in ((20, 4.0), (60, 12.0), (500, 20.0)):
        now = after_label(
            ADAPTIVE, state, step=1000, error=5.0, elapsed=1, reason="engine", n_labels=n_labels
        )
        assert now.gap == least
        assert not now.by_engine
    reachable = replace(state, accepted=0.0, misfits=())
    worse = after_label(
        ADAPTIVE, reachable, step=1000, error=5.0, elapsed=9, reason="scheduled", n_labels=60
    )
    assert worse.gap < 6.0


@pytest.mark.parametrize(("misfit", "gap"), [(0.9, 6.4), (1.1, 12.0)])
def test_gaps_are_not_shortened_where_no_gap_is_short_enough(misfit, gap):
    """A model that errs by the aim right after a label errs little more after some steps."""
    state = PolicyState(10.0, False, misfits=(misfit * AIM,) * 6)
    now = after_label(
        ADAPTIVE, state, step=900, error=1.25 * AIM, elapsed=10, reason="scheduled", n_labels=60
    )
    assert now.gap == pytest.approx(gap)


def audited(policy, state, *, end, committed, count=1):
    """The state after segments with an error at the end, and one as committed."""
    for _ in range(count):
        state = after_label(policy, state, step=0, error=end, elapsed=10, reason="scheduled")
        state = after_label(policy, state, step=0, error=committed, elapsed=10, reason="audit")
    return state


def test_audits_set_the_error_at_the_end_of_a_gap_by_that_of_the_trajectory():
    """If a trajectory errs as much as the ends of its gaps, these are aimed at 0.75 targets."""
    policy, state = replace(ADAPTIVE, gap_max=10**6), PolicyState(50.0, False)
    for ratio in (1.0, 0.3):
        known = audited(policy, state, end=0.4, committed=0.4 * ratio, count=8)
        aim = 0.75 * policy.target / ratio
        for error, sign in ((0.9 * aim, 1), (1.1 * aim, -1)):
            after = after_label(
                policy,
                replace(known, gap=50.0),
                step=0,
                error=error,
                elapsed=50,
                reason="scheduled",
            )
            assert np.sign(after.gap - 50.0) == sign
    harmless = audited(policy, state, end=0.05, committed=0.001)
    assert harmless.gap > audited(policy, state, end=0.05, committed=0.05).gap


def test_a_floor_is_no_reason_for_shorter_gaps():
    """Noise of 17.6 at a target of 20: the gap follows what the error exceeds it by."""
    state = PolicyState(50.0, False, lengths=(50,) * 6, ends=(0.018,) * 6, committed=(0.018,) * 6)
    label = {"step": 0, "error": 0.018, "elapsed": 50, "reason": "scheduled"}
    assert after_label(ADAPTIVE, state, **label).gap < 50.0
    assert after_label(ADAPTIVE, state, **label, floor=0.0176).gap >= 50.0


def test_a_floor_above_the_target_is_accepted_and_said():
    label = {"error": 0.05, "elapsed": 30, "reason": "scheduled", "floor": 0.04}
    assert after(ADAPTIVE, 30, **label).accepted == 0.0  # a larger model may yet do better
    state = after(ADAPTIVE, 6, **label, saturated=True)
    assert state.accepted == pytest.approx(1.25 * 0.04)
    assert "cannot be reached: misfit of the model and noise of the labels are 40.0 meV/A" in (
        unreachable(state, 0.0)
    )
    later = after(ADAPTIVE, 31, error=0.05, elapsed=30, reason="scheduled", state=state)
    assert later.accepted == 0.0  # the model has improved
    left = after(replace(ADAPTIVE, unreachable="engine"), 6, error=0.05, floor=0.04)
    assert left.accepted == 0.0


def test_errors_far_from_labels_do_not_make_a_target_unreachable():
    state = after(ADAPTIVE, 30, error=0.05, elapsed=10, reason="scheduled")
    assert state.accepted == 0.0


def test_budget_of_labels_holds_after_the_first_twenty():
    policy = replace(ADAPTIVE, labels_share=0.01, gap_max=5000)
    state = after_label(
        policy,
        PolicyState(5.0, False),
        step=50,
        error=0.5,
        elapsed=5,
        reason="scheduled",
        n_labels=20,
    )
    assert state.gap == 2099 - 50
    assert not policy.guard_fires(state, 1.0, step=2098)
    assert policy.guard_fires(state, 1.0, step=2099)


def test_replays_are_trusted_by_the_target_unless_the_budget_is_used_up():
    state = PolicyState(50.0, False, ends=(0.1,) * 6, committed=(0.01,) * 6, lengths=(9,) * 6)
    assert ADAPTIVE.trusted_level(state, step=7) == pytest.approx(2 * 3 * ADAPTIVE.target)
    assert ADAPTIVE.guard_level(state) > ADAPTIVE.trusted_level(state, step=7)
    assert ADAPTIVE.trusted_level(replace(state, allowed_at=8), step=7) == float("inf")


def test_guard_becomes_patient_by_false_alarms_and_wary_by_true_ones():
    state = PolicyState(50.0, False)
    patient = after(ADAPTIVE, 4, error=0.01, worst=0.03, elapsed=10, reason="guard", state=state)
    assert patient.patience == pytest.approx(1.25**4)
    assert not ADAPTIVE.guard_fires(patient, 5.0 * AIM, step=50)
    wary = after(ADAPTIVE, 9, error=0.01, worst=0.2, elapsed=10, reason="guard", state=patient)
    assert wary.patience == 1.0


def test_an_alarm_is_false_where_every_label_errs_as_much():
    """A model that cannot reach the aim errs by more than it without anything unusual."""
    state = PolicyState(50.0, False, errors=(1.4 * AIM,) * 6)
    for error, patience in ((1.5 * AIM, 1.25), (2.2 * AIM, 1.0)):
        now = after_label(
            ADAPTIVE, state, step=90, error=error, worst=2 * error, elapsed=10, reason="guard"
        )
        assert now.patience == pytest.approx(patience)


def test_long_gaps_grow_carefully():
    policy = replace(ADAPTIVE, gap_max=1000)
    state = PolicyState(200.0, False)
    for error, gap in ((0.2, 300.0), (0.09, 1000.0)):  # in units of the aim
        grown = after_label(
            policy, state, step=900, error=error * AIM, elapsed=200, reason="scheduled"
        )
        assert grown.gap == gap


def test_very_long_gaps_are_reached_by_harmless_errors_only():
    policy, found = replace(ADAPTIVE, gap_max=3000), []
    for gap, error in ((800.0, 0.09), (1000.0, 0.09), (2000.0, 0.09), (1900.0, 0.2), (900.0, 0.2)):
        state = after_label(
            policy,
            PolicyState(gap, False),
            step=9000,
            error=error * AIM,
            elapsed=int(gap),
            reason="scheduled",
        )
        found.append(state.gap)
    assert found == [1600.0, 2000.0, 3000.0, 1000.0, 1000.0]


def test_a_forecast_shortens_gaps_and_never_lengthens_them():
    def decide(forecast):
        return after_label(
            ADAPTIVE,
            PolicyState(20.0, False),
            step=500,
            error=AIM,
            elapsed=20,
            reason="scheduled",
            forecast=forecast,
        ).gap

    assert decide(lambda steps: 1e-4 * steps) == 20.0
    assert decide(lambda steps: AIM / 10 * steps) <= 10.0
    assert decide(lambda steps: 1.0) == 1.0


@given(gap=st.floats(1, 100), rest=st.integers(1, 500))
def test_plans_end_with_the_gap_or_with_the_run(gap, rest):
    (length,), reason = planned(PolicyState(gap, False), rest=rest)
    assert length == (rest if rest <= 1.25 * gap else int(gap))
    assert {"end": length == rest, "scheduled": length < rest}[reason]


@given(gap=st.floats(2, 4000), rest=st.integers(1, 9000), at_once=st.integers(2, 8))
def test_segments_with_several_labels_have_equal_gaps(gap, rest, at_once):
    ends, reason = planned(PolicyState(gap, False), rest=rest, at_once=at_once)
    assert 1 <= len(ends) <= at_once
    assert all(a < b for a, b in zip((0, *ends), ends))
    assert ends[-1] <= min(rest, 1.01 * max(at_once * gap, gap) + 0.25 * gap)
    assert ends[-1] <= max(3000.0, gap) + 0.25 * gap
    assert np.ptp(np.diff((0, *ends))) <= 1
    assert {"end": ends[-1] == rest, "scheduled": ends[-1] < rest}[reason]


def test_audits_are_as_many_as_asked_and_anywhere_in_a_segment():
    known = PolicyState(100.0, False, errors=(1.0,), committed=(0.01,) * 3, mean_length=99.0)
    drawn = [drawn_audit(ADAPTIVE, known, length=99, n_labels=n, seed=1) for n in range(5000)]
    assert drawn[7] == drawn_audit(ADAPTIVE, known, length=99, n_labels=7, seed=1)
    steps = [audit.step for audit in drawn if audit is not None]
    assert 900 < len(steps) < 1100
    assert min(steps) >= 1
    assert max(steps) <= 99
    counts = [sum(a <= s < a + 33 for s in steps) for a in (1, 34, 67)]
    assert max(counts) < 1.3 * min(counts)
    fixed = FixedPolicy(0, 10)
    assert all(drawn_audit(fixed, known, length=9, n_labels=n, seed=1) is None for n in range(99))


def test_errors_of_many_targets_are_not_accepted_of_a_model_that_has_just_begun():
    far = 20.0 * ADAPTIVE.target
    assert after(ADAPTIVE, 8, error=far, n_labels=8).accepted == 0.0
    assert after(ADAPTIVE, 8, error=far, n_labels=12).accepted == pytest.approx(1.5 * 0.6 * far)


def test_noise_above_the_target_is_accepted_once_the_errors_show_it():
    noisy = {"error": 0.08, "noise": 0.07, "elapsed": 4, "reason": "scheduled"}
    assert after(ADAPTIVE, 5, **noisy).accepted == 0.0
    state = after(ADAPTIVE, 8, **noisy)
    assert state.accepted == pytest.approx(1.25 * 0.07)
    assert state.floor == pytest.approx(0.07)
    assert state.steps > after(ADAPTIVE, 8, **(noisy | {"noise": 0.0})).steps
    # Atoms that hardly move do not see the noise of the grid.
    quiet = after(ADAPTIVE, 8, **(noisy | {"error": 0.01}))
    assert quiet.accepted == 0.0
    below = after(ADAPTIVE, 8, **(noisy | {"noise": 0.9 * ADAPTIVE.target}))
    assert below.floor == 0.0


def test_misfit_beside_noise_is_accepted_only_of_a_model_that_cannot_grow():
    """With few labels, the misfit is that of a model which more of them would improve."""
    noisy = {"error": 0.2, "noise": 0.07, "elapsed": 4, "reason": "scheduled", "floor": 0.15}
    growing = after(ADAPTIVE, 8, **noisy)
    assert growing.accepted == pytest.approx(1.25 * 0.07)
    assert growing.floor == pytest.approx(0.15)
    saturated = after(ADAPTIVE, 8, saturated=True, **noisy)
    assert saturated.accepted == pytest.approx(1.25 * 0.15)


def test_a_fifth_of_the_steps_are_in_audited_segments():
    """Otherwise chance leaves out the few long segments that make up a run."""
    state, step = PolicyState(), 0
    for number, length in enumerate((3, 9, 29, 88, 266, 600, 1000, 1000, 1000)):
        step += length
        state = after_label(
            ADAPTIVE, state, step=step, error=1e-4, elapsed=length, reason="scheduled"
        )
        audit = drawn_audit(ADAPTIVE, state, length=length, n_labels=number, seed=3)
        if audit is not None:
            state = after_label(
                ADAPTIVE, state, step=step, error=1e-4, elapsed=length, reason="audit"
            )
        assert state.audited >= 0.2 * state.driven
    assert state.audited < 0.5 * state.driven


def audits_of(segments, committed):
    """Number of audits in so many segments of 500 steps, with their error."""
    state = PolicyState(500.0, False, mean_length=30.0)
    for number in range(segments):
        label = {"step": 500 * (number + 1), "error": ADAPTIVE.target, "elapsed": 500}
        state = after_label(ADAPTIVE, state, **label, reason="scheduled", n_labels=2 * number)
        if drawn_audit(ADAPTIVE, state, length=500, n_labels=number, seed=3) is not None:
            label["error"] = committed
            state = after_label(ADAPTIVE, state, **label, reason="audit", n_labels=2 * number + 1)
    return state.audits


def test_a_run_of_many_segments_is_audited_ever_more_rarely():
    """Their number grows with the root of that of the segments, unless errors are too large."""
    small, large = 0.7 * ADAPTIVE.target, 0.8 * ADAPTIVE.target
    few, more, many = (audits_of(segments, small) for segments in (10, 100, 1000))
    assert few >= 4
    assert few < more < 60
    assert more < many < 200
    assert audits_of(100, large) == pytest.approx(10 * audits_of(10, large), rel=0.3)


@given(length=st.integers(1, 1000), error=st.floats(0.0, 0.1), seed=st.integers(0, 100))
def test_audits_stand_for_all_steps_of_segments_like_theirs(length, error, seed):
    state = PolicyState(9.0, False, errors=(error,), committed=(0.01,) * 3, mean_length=60.0)
    share = ADAPTIVE.audit_share(state, length=length)
    assert 0.0 < share <= 1.0
    assert share == pytest.approx(
        min(1.0, 0.2 * length / 60.0 * min(1.0, max(0.1, error / ADAPTIVE.target)))
    )
    audit = drawn_audit(ADAPTIVE, state, length=length, n_labels=7, seed=seed)
    if audit is not None:
        assert audit.stands_for == pytest.approx(length / share)


def test_fixed_is_the_talks_schedule():
    policy = FixedPolicy(train_steps=3, every=7)
    state = PolicyState()
    gaps = []
    for step in (0, 1, 2, 3, 10, 17):
        state = after_label(policy, state, step=step, error=9.9, elapsed=1, reason="scheduled")
        gaps.append((state.steps, state.by_engine))
    assert gaps == [(1, True)] * 3 + [(7, False)] * 3

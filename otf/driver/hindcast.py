"""Replay of the on-the-fly protocol over recorded frames instead of dynamics."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ase import Atoms

from otf.driver.measure import Measured, measure
from otf.driver.policy import UNTRIGGERED, Policy, PolicyState, Reason, expectation, planned
from otf.driver.records import ResidualUse
from otf.driver.residual_correction import ResidualCorrection
from otf.engines.labels import Labels
from otf.learning.learner import Learner

_COVERAGE_EVERY = 7  # frames between predicted errors; prime, so that no schedule beats with it


@dataclass(frozen=True)
class HindcastFrame:
    """One frame of a replayed protocol.

    Attributes
    ----------
    since_label
        Frames since the previous label.
    labelled
        Whether its label was learned, after the prediction.
    measured
        Errors of the prediction before the label was learned; predicted errors and coverage are
        NaN at most frames.
    """

    index: int
    since_label: int
    labelled: bool
    measured: Measured


def hindcast(
    learner: Learner,
    policy: Policy,
    frames: Sequence[Atoms],
    labels_of: Callable[[int], Labels],
    *,
    frame_fs: float,
    seed: int,
    residual: ResidualUse = "off",
) -> Iterator[HindcastFrame]:
    """Predict every frame, learning those that the policy selects.

    Parameters
    ----------
    learner
        Without any learned label.
    labels_of
        The recorded labels of a frame.
    frame_fs
        Time between frames.
    seed
        Seed of the times of random labels.
    residual
        Use of the autoregressive forecast of the residual.
    """
    last, state, plan = 0, PolicyState(), _FIRST
    correction = ResidualCorrection(None, 0, 1)
    for i, atoms in enumerate(frames):
        labels, elapsed = labels_of(i), i - last
        looks = policy.guard_every and elapsed % policy.guard_every == 0 and not state.by_engine
        looks = looks and 0 < elapsed < plan[0]
        if looks:
            worst = learner.worst_error(atoms, enough=policy.guard_level(state), turn=i)
            if policy.guard_fires(state, worst, step=i):
                plan = (elapsed, "guard")
        labelled = i == 0 or elapsed >= plan[0]
        measured = measure(
            learner,
            atoms,
            labels,
            added=correction.at(i),
            with_predicted=i % _COVERAGE_EVERY == 0,
        )
        if labelled:
            reason = plan[1]
            audited = reason in UNTRIGGERED and not state.by_engine
            learner.learn(atoms, labels, time_fs=i * frame_fs, audited=audited)
            forecast = learner.error_forecast() if residual == "forecast" else None
            state = policy.after_label(
                state,
                step=i,
                error=measured.force_mae,
                elapsed=elapsed,
                reason=reason,
                n_labels=learner.n_labels,
                worst=measured.force_max,
                forecast=expectation(forecast, elapsed),
            )
            last = i
            n_labels = learner.n_labels
            rest = len(frames) - 1 - i
            plan = planned(policy, state, rest=rest, n_labels=n_labels, seed=seed)
            if residual == "propagate":
                forecast = learner.residual_forecast(n_labels)
                correction = ResidualCorrection(forecast, i, max(1, elapsed))
        yield HindcastFrame(i, elapsed, labelled, measured)


_FIRST: tuple[int, Reason] = (0, "start")

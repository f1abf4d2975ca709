"""Replay of the on-the-fly protocol over recorded frames instead of dynamics."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ase import Atoms

from otf.driver.measure import Measured, measure
from otf.driver.policy import (
    UNTRIGGERED,
    LabelError,
    Policy,
    PolicyState,
    Reason,
    drawn_audit,
    expectation,
    planned,
)
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
    predicted
        Whether the model drives this frame: it is then measured by the model that learned the label
        at the end of its gap. Otherwise it is that label, measured before learning.
    labelled
        Whether its label was learned.
    measured
        Errors of the prediction; predicted errors and coverage are NaN at most frames.
    """

    index: int
    since_label: int
    predicted: bool
    labelled: bool
    measured: Measured


@dataclass(eq=False)
class _Protocol:
    """The protocol with its state: the frame of the latest label, and what the policy has seen."""

    learner: Learner
    policy: Policy
    frames: Sequence[Atoms]
    labels_of: Callable[[int], Labels]
    frame_fs: float
    residual: ResidualUse
    last: int = 0
    state: PolicyState = field(default_factory=PolicyState)
    correction: ResidualCorrection = field(default_factory=lambda: ResidualCorrection(None, 0, 1))

    def next_label(self) -> tuple[int, Reason]:
        """The frame of the next label, and its reason."""
        (length,), reason = planned(self.state, rest=len(self.frames) - 1 - self.last)
        every = self.policy.guard_every
        if every and not self.state.by_engine:
            level = self.policy.guard_level(self.state)
            for i in range(self.last + every, self.last + length, every):
                worst = self.learner.worst_error(self.frames[i], enough=level, turn=i)
                if self.policy.guard_fires(self.state, worst, step=i):
                    return i, "guard"
        return self.last + length, reason

    def measure(self, i: int) -> Measured:
        """Errors of the present model at a frame."""
        return measure(
            self.learner,
            self.frames[i],
            self.labels_of(i),
            added=self.correction.at(i),
            with_predicted=i % _COVERAGE_EVERY == 0,
        )

    def learn(self, i: int, reason: Reason, measured: Measured, *, elapsed: int) -> None:
        """Learn the label of a frame, and update the policy."""
        audited = reason in UNTRIGGERED and not self.state.by_engine
        self.learner.learn(
            self.frames[i], self.labels_of(i), time_fs=i * self.frame_fs, audited=audited
        )
        forecast = self.learner.error_forecast() if self.residual == "forecast" else None
        self.state = self.policy.after_label(
            self.state,
            LabelError(
                i,
                measured.force_mae,
                elapsed,
                reason,
                n_labels=self.learner.n_labels,
                worst=measured.force_max,
                floor=self.learner.floor,
                saturated=self.learner.saturated,
                forecast=expectation(forecast, elapsed),
            ),
        )


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
        Seed of the times of audits.
    residual
        Use of the autoregressive forecast of the residual.
    """
    p = _Protocol(learner, policy, frames, labels_of, frame_fs, residual)
    first, spacing = p.measure(0), 1
    p.learn(0, "start", first, elapsed=0)
    yield HindcastFrame(0, 0, False, True, first)
    while p.last < len(frames) - 1:
        by_engine, (i, reason) = p.state.by_engine, p.next_label()
        at_end, gap = p.measure(i), i - p.last
        p.learn(i, reason, at_end, elapsed=gap)
        audit, found = None, None
        if not by_engine and gap > 1:
            audit = drawn_audit(
                policy, p.state, length=gap - 1, n_labels=learner.n_labels, seed=seed
            )
        if residual == "propagate":
            forecast = learner.residual_forecast(learner.n_labels - 1)
            p.correction = ResidualCorrection(forecast, p.last, spacing)
        for since in range(1, gap):
            committed = p.measure(p.last + since)
            if audit is not None and since == audit.step:
                found = committed
            yield HindcastFrame(p.last + since, since, True, found is committed, committed)
        yield HindcastFrame(i, gap, False, True, at_end)
        if audit is not None and found is not None:
            p.learn(p.last + audit.step, "audit", found, elapsed=gap)
        if residual == "propagate":
            p.correction = ResidualCorrection(learner.residual_forecast(learner.n_labels), i, gap)
        p.last, spacing = i, gap

"""Policies that decide when to label, as pure functions of the measured errors.

Both policies start with a label at every step, with the engine's forces driving the dynamics.
Afterwards the model drives it, with ``gap`` steps between labels. If the error is too large for
any gap, the engine drives the dynamics again.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from otf.model.residual import Forecast

_FASTEST, _SLOWEST = 3.0, 0.3  # factors by which a gap grows and shrinks at most
_MEAN_OF_NORMAL = 0.8  # mean absolute value of a normal distribution of unit width
_SHORTER = 0.8  # factor by which a gap shrinks while the forecast is too large
_LONG, _CAUTIOUS = 200.0, 1.5  # gap above which it grows at most by this factor
_MISFIT_LABELS = 6  # labels right after another one that show whether a target can be reached
_SOON = 2  # steps after a label within which its error is misfit and noise, not extrapolation
_MARGIN = 1.25  # accepted error relative to the one that is reached
_UNLIMITED = 20  # first labels, which no budget limits
_FALSE_ALARM, _TRUE_ALARM = 1.25, 0.8  # factors on the threshold of the guard
_MOST_PATIENT = 10.0  # of the threshold of the guard, relative to the configured one

Reason = Literal[
    "start",
    "engine",
    "scheduled",
    "audit",
    "guard",
    "bond",
    "end",
    "explosion",
    "burn-in",
    "proposal",
]
"""Why a label was taken: ``start`` and ``engine`` while the engine drives the dynamics; the others
end a segment of the model: at the end of its gap (``scheduled``) or of the run (``end``), at a
random step of the gap (``audit``), or at once because of the predicted error (``guard``), of
diverging dynamics (``explosion``) or of a bonding environment that no label has (``bond``). Hybrid
Monte Carlo has ``burn-in`` and ``proposal``."""

UNTRIGGERED: tuple[Reason, ...] = ("scheduled", "audit", "end", "proposal")
"""Reasons of untriggered labels, whose time did not depend on the model. A gap that the guard cuts
short has none, so they measure the error where the guard does not fire."""


@dataclass(frozen=True)
class PolicyState:
    """State that determines the next label.

    Attributes
    ----------
    gap
        Steps to the next label; a real number so that small factors accumulate.
    by_engine
        Whether the engine's own forces move the atoms.
    misfits
        Errors at the latest labels right after another one: misfit and noise, eV/Angstrom.
    errors
        Errors at the latest labels, eV/Angstrom.
    accepted
        Error that is accepted because the target cannot be reached, eV/Angstrom; 0 if it can.
    patience
        Threshold of the guard relative to the configured one; it follows false and true alarms.
    allowed_at
        Step before which the budget of labels allows none.
    """

    gap: float = 1.0
    by_engine: bool = True
    misfits: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()
    accepted: float = 0.0
    patience: float = 1.0
    allowed_at: int = 0

    @property
    def steps(self) -> int:
        """Whole steps to the next label."""
        return int(self.gap)


Expectation = Callable[[float], float]


def planned(
    policy: "Policy", state: PolicyState, *, rest: int, n_labels: int, seed: int
) -> tuple[int, Reason]:
    """Steps to the next label, and its reason.

    The draw depends on the seed and the number of labels alone, so a resumed run repeats it.

    Parameters
    ----------
    rest
        Steps left in the run.
    """
    length = min(state.steps, rest)
    rng = np.random.default_rng((seed, n_labels))
    if length > 1 and rng.random() < policy.audit_fraction:
        return int(rng.integers(1, length)), "audit"
    return length, "end" if length == rest else "scheduled"


def expectation(forecast: Forecast | None, elapsed: int) -> Expectation | None:
    """Expected mean absolute error as a function of the steps after a label.

    Parameters
    ----------
    forecast
        In units of ``elapsed``, the steps between the last two labels.
    """
    if forecast is None:
        return None
    return lambda steps: _MEAN_OF_NORMAL * forecast.size(steps / max(1, elapsed))


class Policy(Protocol):
    """The switch between engine and model."""

    @property
    def guard_every(self) -> int:
        """Steps between checks of the predicted error; 0 for never."""
        ...

    @property
    def audit_fraction(self) -> float:
        """Share of the labels taken at a random step of their gap."""
        ...

    def after_label(
        self,
        state: PolicyState,
        *,
        step: int,
        error: float,
        elapsed: int,
        reason: Reason,
        n_labels: int = 0,
        worst: float = 0.0,
        forecast: Expectation | None = None,
    ) -> PolicyState:
        """The state after a label.

        Parameters
        ----------
        state
            State before the label.
        step
            Step at which it was taken.
        error
            Mean absolute force error at the label before learning, eV/Angstrom; NaN for the
            first label.
        elapsed
            Steps since the previous label.
        reason
            Why it was taken.
        forecast
            Expected mean absolute force error as a function of steps, eV/Angstrom.
        """
        ...

    def guard_fires(self, state: PolicyState, predicted_error: float, *, step: int) -> bool:
        """Whether the largest predicted error of an atom (eV/Angstrom) triggers a label."""
        ...

    def guard_level(self, state: PolicyState) -> float:
        """Predicted error (eV/Angstrom) above which the guard fires."""
        ...

    def bond_fires(self, state: PolicyState, predicted_error: float) -> bool:
        """The same where a bonding environment occurs that no label has."""
        ...


@dataclass(frozen=True)
class AdaptivePolicy:
    """Adapts the gap between labels to the measured error.

    gap <- clip(gap * clip((target / error)^2, 0.3, 3), 1, gap_max), the controller of an
    adaptive integrator: the error of a segment grows about as the square root of its length.

    Parameters
    ----------
    target
        Mean absolute force error to stay below, eV/Angstrom.
    gap_max
        Longest gap, steps.
    guard
        The guard fires when the predicted error of an atom exceeds this many targets.
    guard_every
        Steps between checks of the guard.
    audit_fraction
        Share of the labels taken at a random step of their gap.
    unreachable
        What to do about a target that the model cannot reach; see :meth:`_followed`.
    labels_share
        Largest share of the steps that are labelled.
    """

    target: float
    gap_max: int
    guard: float
    guard_every: int
    audit_fraction: float = 0.1
    unreachable: Literal["accept", "engine", "stop"] = "accept"
    labels_share: float = 1.0

    def after_label(
        self,
        state: PolicyState,
        *,
        step: int,
        error: float,
        elapsed: int,
        reason: Reason,
        n_labels: int = 0,
        worst: float = 0.0,
        forecast: Expectation | None = None,
    ) -> PolicyState:
        """See :class:`Policy`.

        >>> policy = AdaptivePolicy(target=0.02, gap_max=100, guard=3.0, guard_every=10)
        >>> policy.after_label(PolicyState(10, False), step=50, error=0.01, elapsed=10,
        ...                    reason="scheduled").gap
        30.0
        >>> policy.after_label(PolicyState(10, False), step=50, error=0.04, elapsed=10,
        ...                    reason="scheduled").gap
        3.0
        """
        if error != error:  # nothing was predicted, so nothing was measured
            return state
        state = self._followed(state, error, elapsed)
        target = max(self.target, state.accepted)
        factor = min(_FASTEST, max(_SLOWEST, (target / max(error, 1e-12)) ** 2))
        if reason in ("guard", "bond", "explosion", "audit"):
            # An early label can show that the gap was too long, never that it was too short.
            gap = state.gap if factor >= 1.0 else min(state.gap, elapsed) * factor
        else:
            gap = state.gap * (min(factor, _CAUTIOUS) if state.gap >= _LONG else factor)
        if forecast is not None:
            while gap > 1.0 and forecast(gap) > target:
                gap *= _SHORTER
        allowed_at = 0
        if n_labels >= _UNLIMITED:
            allowed_at = math.ceil((n_labels + 1) / self.labels_share) - 1
            gap = max(gap, float(allowed_at - step))
        gap = min(float(self.gap_max), max(1.0, gap))
        patience = state.patience
        if reason == "guard":
            true_alarm = worst > self.guard * target or error > target
            patience *= _TRUE_ALARM if true_alarm else _FALSE_ALARM
            patience = min(_MOST_PATIENT, max(1.0, patience))
        return replace(
            state, gap=gap, by_engine=gap < 2.0, patience=patience, allowed_at=allowed_at
        )

    def _followed(self, state: PolicyState, error: float, elapsed: int) -> PolicyState:
        """The state with an error added, and with the error that is accepted.

        An error right after a label is not extrapolation: if such errors exceed the target, neither
        shorter gaps nor more labels help, only a better model. The smallest error that the model
        has shown lately is what it can reach.
        """
        misfits, errors = state.misfits, (*state.errors, error)[-_MISFIT_LABELS:]
        if elapsed <= _SOON:
            misfits = (*misfits, error)[-_MISFIT_LABELS:]
        accepted = 0.0
        if self.unreachable != "engine" and len(misfits) == _MISFIT_LABELS:
            reached = min(float(np.median(misfits)), float(np.median(errors)))
            accepted = _MARGIN * reached if reached > self.target else 0.0
        return replace(state, misfits=misfits, errors=errors, accepted=accepted)

    def guard_fires(self, state: PolicyState, predicted_error: float, *, step: int) -> bool:
        """See :class:`Policy`."""
        if step < state.allowed_at:
            return False
        return not predicted_error <= self.guard_level(state)

    def guard_level(self, state: PolicyState) -> float:
        """See :class:`Policy`."""
        return self.guard * state.patience * max(self.target, state.accepted)

    def bond_fires(self, state: PolicyState, predicted_error: float) -> bool:
        """See :class:`Policy`."""
        return not predicted_error <= max(self.target, state.accepted)


@dataclass(frozen=True)
class FixedPolicy:
    """A label at every step of an initial period, then one in ``every`` steps.

    Parameters
    ----------
    train_steps
        Initial steps with a label each.
    every
        Gap afterwards.
    """

    train_steps: int
    every: int
    guard_every: int = 0
    audit_fraction: float = 0.0

    def after_label(
        self,
        state: PolicyState,
        *,
        step: int,
        error: float,
        elapsed: int,
        reason: Reason,
        n_labels: int = 0,
        worst: float = 0.0,
        forecast: Expectation | None = None,
    ) -> PolicyState:
        """See :class:`Policy`.

        >>> FixedPolicy(train_steps=4, every=10).after_label(
        ...     PolicyState(), step=4, error=0.1, elapsed=1, reason="start").gap
        10.0
        """
        if step < self.train_steps:
            return PolicyState(1.0, True)
        return PolicyState(float(self.every), False)

    def guard_fires(self, state: PolicyState, predicted_error: float, *, step: int) -> bool:
        """Never: the schedule does not depend on the model."""
        return False

    def guard_level(self, state: PolicyState) -> float:
        """None: the guard never fires."""
        return math.inf

    def bond_fires(self, state: PolicyState, predicted_error: float) -> bool:
        """Never, as the guard."""
        return False

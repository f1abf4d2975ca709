"""When to ask the engine: pure functions of what was measured.

Both policies start with a label at every step, the atoms moved by the engine's forces. Afterwards
the model moves them and ``gap`` steps lie between two labels. Where the error does not allow any
gap, the engine takes over again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from otf.model.residual import Forecast

_FASTEST, _SLOWEST = 3.0, 0.3  # factors by which a gap grows and shrinks at most
_MEAN_OF_NORMAL = 0.8  # mean absolute value of a normal distribution of unit width
_SHORTER = 0.8  # factor by which a gap shrinks while the forecast is too large

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
"""Why a label was asked for: ``start`` and ``engine`` while the engine moves the atoms, the others
to end a segment of the model: when its gap was over, at a random step before that (``audit``), or
at once because of what the model itself said (``guard``, ``explosion``) or because an atom has come
into bonds that no label has (``bond``). Hybrid Monte Carlo has ``burn-in`` and ``proposal``."""

UNTRIGGERED: tuple[Reason, ...] = ("scheduled", "audit", "end", "proposal")
"""Reasons the model's opinion has no part in. Where the guard fires first there is no such label:
what is measured at them is the error where the guard keeps still."""


@dataclass(frozen=True)
class PolicyState:
    """What the next decision depends on.

    Attributes
    ----------
    gap
        Steps to the next label, a real number so that small factors add up.
    by_engine
        Whether the engine's own forces move the atoms.
    """

    gap: float = 1.0
    by_engine: bool = True

    @property
    def steps(self) -> int:
        """Whole steps to the next label."""
        return int(self.gap)


Expectation = Callable[[float], float]


def planned(
    policy: "Policy", state: PolicyState, *, rest: int, n_labels: int, seed: int
) -> tuple[int, Reason]:
    """Steps to the next label, and why it will be taken.

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
    """Mean absolute error to expect so many steps after a label.

    Parameters
    ----------
    forecast
        In units of the steps ``elapsed`` between the last two labels.
    """
    if forecast is None:
        return None
    return lambda steps: _MEAN_OF_NORMAL * forecast.size(steps / max(1, elapsed))


class Policy(Protocol):
    """The switch between engine and model."""

    @property
    def guard_every(self) -> int:
        """Steps between looks at the predicted error; 0 for never."""
        ...

    @property
    def audit_fraction(self) -> float:
        """Share of the labels that come at a random step of their gap."""
        ...

    def after_label(
        self,
        state: PolicyState,
        *,
        step: int,
        error: float,
        elapsed: int,
        reason: Reason,
        forecast: Expectation | None = None,
    ) -> PolicyState:
        """The state after a label.

        Parameters
        ----------
        state
            Before the label.
        step
            Where it was taken.
        error
            Mean absolute force error measured there before learning, eV/Angstrom; NaN for the
            first label.
        elapsed
            Steps since the label before.
        reason
            Why it was taken.
        forecast
            Mean absolute force error to expect so many steps later, eV/Angstrom.
        """
        ...

    def guard_fires(self, predicted_error: float) -> bool:
        """Whether the largest mean error expected of an atom (eV/Angstrom) calls for a label."""
        ...


@dataclass(frozen=True)
class AdaptivePolicy:
    """As many labels as the measured error demands.

    gap <- clip(gap * clip((target / error)^2, 0.3, 3), 1, gap_max), the controller of an
    adaptive integrator: the error of a segment grows about as the square root of its length.

    Parameters
    ----------
    target
        Mean absolute force error to stay below, eV/Angstrom.
    gap_max
        Longest gap, steps.
    guard
        The guard fires when the mean error expected of an atom exceeds this many targets.
    guard_every
        Steps between looks at the guard.
    audit_fraction
        Share of the labels moved to a random step of their gap.
    """

    target: float
    gap_max: int
    guard: float
    guard_every: int
    audit_fraction: float = 0.1

    def after_label(
        self,
        state: PolicyState,
        *,
        step: int,
        error: float,
        elapsed: int,
        reason: Reason,
        forecast: Expectation | None = None,
    ) -> PolicyState:
        """See :class:`Policy`.

        >>> policy = AdaptivePolicy(target=0.02, gap_max=100, guard=3.0, guard_every=10)
        >>> policy.after_label(PolicyState(10, False), step=50, error=0.01, elapsed=10,
        ...                    reason="scheduled")
        PolicyState(gap=30.0, by_engine=False)
        >>> policy.after_label(PolicyState(10, False), step=50, error=0.04, elapsed=10,
        ...                    reason="scheduled")
        PolicyState(gap=3.0, by_engine=False)
        """
        if error != error:  # nothing was predicted, so nothing was measured
            return state
        factor = min(_FASTEST, max(_SLOWEST, (self.target / max(error, 1e-12)) ** 2))
        if reason in ("guard", "bond", "explosion", "audit"):
            # The label came early: it says that the gap was too long, never that it was too short.
            gap = state.gap if factor >= 1.0 else min(state.gap, elapsed) * factor
        else:
            gap = state.gap * factor
        if forecast is not None:
            while gap > 1.0 and forecast(gap) > self.target:
                gap *= _SHORTER
        gap = min(float(self.gap_max), max(1.0, gap))
        return PolicyState(gap, gap < 2.0)

    def guard_fires(self, predicted_error: float) -> bool:
        """See :class:`Policy`."""
        return not predicted_error <= self.guard * self.target


@dataclass(frozen=True)
class FixedPolicy:
    """The talk's protocol: a label at every step for a while, then one in ``every`` steps.

    Parameters
    ----------
    train_steps
        Steps with a label at each.
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
        forecast: Expectation | None = None,
    ) -> PolicyState:
        """See :class:`Policy`.

        >>> FixedPolicy(train_steps=4, every=10).after_label(
        ...     PolicyState(), step=4, error=0.1, elapsed=1, reason="start")
        PolicyState(gap=10.0, by_engine=False)
        """
        if step < self.train_steps:
            return PolicyState(1.0, True)
        return PolicyState(float(self.every), False)

    def guard_fires(self, predicted_error: float) -> bool:
        """Never: the schedule does not depend on the model."""
        return False

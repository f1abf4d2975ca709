"""Policies that decide when to label, as pure functions of the measured errors.

Both policies start with a label at every step, with the engine's forces driving the dynamics.
Afterwards the model drives it, with ``gap`` steps between labels. If the error is too large for
any gap, the engine drives the dynamics again.
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

    def guard_fires(self, predicted_error: float) -> bool:
        """Whether the largest predicted error of an atom (eV/Angstrom) triggers a label."""
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
            # An early label can show that the gap was too long, never that it was too short.
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

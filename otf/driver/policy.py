"""Policies that decide when to label, as pure functions of the measured errors.

Both policies start with a label at every step, with the engine's forces driving the dynamics.
Afterwards the model drives it, with ``gap`` steps between labels. If the error is too large for
any gap, the engine drives the dynamics again.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import numpy as np

from otf.model.residual import Forecast

_LONGEST_SEGMENT = 3000.0  # steps, unless a single gap is longer: its frames are held in memory
_STRETCH = 1.25  # of the last gap of a run; its error grows by about the square root
_MEAN_OF_NORMAL = 0.8  # mean absolute value of a normal distribution of unit width

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
"""Why a label was taken: ``start`` and ``engine`` while the engine drives the dynamics. The others
end a segment of the model: at the end of its gap (``scheduled``) or of the run (``end``), or at
once because of the predicted error (``guard``), of diverging dynamics (``explosion``) or of a
bonding environment that no label has (``bond``). An ``audit`` is a random step of a segment as it
was committed. Hybrid Monte Carlo has ``burn-in`` and ``proposal``."""

UNTRIGGERED: tuple[Reason, ...] = ("scheduled", "audit", "end", "proposal")
"""Reasons of untriggered labels, whose time did not depend on the model."""


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
    floor
        Misfit of the model and noise of the labels at the latest label, eV/Angstrom; 0 if unknown.
    stuck_at
        Latest step at which the model could not go on: the engine makes the next one.
    patience
        Threshold of the guard relative to the configured one; it follows false and true alarms.
    allowed_at
        Step before which the budget of labels allows none.
    mean_length
        Mean steps between labels so far.
    driven, audited, audits
        Steps since the start, those of them in audited segments, and the number of these segments.
    lengths, ends, committed
        Steps of the latest audited segments, and their errors, eV/Angstrom: at the end before
        learning, and at a random step of the segment as it was committed.
    """

    gap: float = 1.0
    by_engine: bool = True
    stuck_at: int = -1
    misfits: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()
    accepted: float = 0.0
    floor: float = 0.0
    patience: float = 1.0
    allowed_at: int = 0
    mean_length: float = 1.0
    driven: int = 0
    audited: int = 0
    audits: int = 0
    lengths: tuple[int, ...] = ()
    ends: tuple[float, ...] = ()
    committed: tuple[float, ...] = ()

    @property
    def steps(self) -> int:
        """Whole steps to the next label."""
        return int(self.gap)


Expectation = Callable[[float], float]


class Plan(NamedTuple):
    """Steps of the next segment at which labels are taken, from 1, and the reason for the last."""

    ends: tuple[int, ...]
    reason: Reason


def planned(state: PolicyState, *, rest: int, at_once: int = 1) -> Plan:
    """The next segment, with so many steps left in the run: one gap, or several of equal length.

    A gap is lengthened rather than followed by a short one at the end of the run.

    Parameters
    ----------
    at_once
        Number of labels that are computed at once.

    >>> planned(PolicyState(gap=100), rest=120)
    Plan(ends=(120,), reason='end')
    >>> planned(PolicyState(gap=100), rest=330, at_once=3)
    Plan(ends=(100, 200, 300), reason='scheduled')
    """
    longest = min(at_once * state.gap, max(_LONGEST_SEGMENT, state.gap))
    length = int(longest)
    if rest <= longest + (_STRETCH - 1.0) * state.gap:
        length = rest
    gaps = min(at_once, max(1, round(length / state.gap)))
    ends = tuple(round(length * gap / gaps) for gap in range(1, gaps + 1))
    return Plan(ends, "end" if length == rest else "scheduled")


class Audit(NamedTuple):
    """A step of a committed segment to label, from 1, and the steps that it stands for.

    These are the steps of the segment over the probability of its audit.
    """

    step: int
    stands_for: float


def drawn_audit(
    policy: "Policy", state: PolicyState, *, length: int, n_labels: int, seed: int
) -> Audit | None:
    """The audit of a segment whose label was learned; None for most segments.

    Long segments with large errors are drawn most often, as they decide the error of the
    trajectory. The draw depends on the seed and the number of labels alone, so a resumed run
    repeats it.
    """
    share = policy.audit_share(state, length=length)
    rng = np.random.default_rng((seed, n_labels))
    if rng.random() >= share:
        return None
    return Audit(int(rng.integers(1, length + 1)), length / share)


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


@dataclass(frozen=True)
class LabelError:
    """The error of the model at a label, and what a policy decides by besides.

    Attributes
    ----------
    step, reason
        Step at which the label was taken, and why.
    error
        Mean absolute force error before learning, eV/Angstrom; NaN for the first label.
    elapsed
        Steps since the previous label; of the segment, for an audit.
    n_labels
        Labels so far.
    worst
        Largest error of a force component, eV/Angstrom.
    noise
        Noise of the labels, measured before the run, eV/Angstrom; 0 if it was not.
    floor, saturated
        Part of the error that no label reduces: misfit and noise, eV/Angstrom; and whether no
        larger model was found to reduce it.
    forecast
        Expected mean absolute force error as a function of steps, eV/Angstrom.
    """

    step: int
    error: float
    elapsed: int
    reason: Reason
    n_labels: int = 0
    worst: float = 0.0
    noise: float = 0.0
    floor: float = 0.0
    saturated: bool = False
    forecast: Expectation | None = None


class Policy(Protocol):
    """The switch between engine and model."""

    @property
    def guard_every(self) -> int:
        """Steps between checks of the predicted error; 0 for never."""
        ...

    def audit_share(self, state: PolicyState, *, length: int) -> float:
        """Probability that a segment of so many steps is audited, after its label."""
        ...

    def after_label(self, state: PolicyState, label: LabelError) -> PolicyState:
        """The state after a label, from the state before it and its error."""
        ...

    def guard_fires(self, state: PolicyState, predicted_error: float, *, step: int) -> bool:
        """Whether the largest predicted error of an atom (eV/Angstrom) triggers a label."""
        ...

    def guard_level(self, state: PolicyState) -> float:
        """Predicted error (eV/Angstrom) above which the guard fires."""
        ...

    def trusted_level(self, state: PolicyState, *, step: int) -> float:
        """Predicted error (eV/Angstrom) above which a replay is not committed."""
        ...

    def bond_fires(self, state: PolicyState, predicted_error: float) -> bool:
        """The same where a bonding environment occurs that no label has."""
        ...


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

    def after_label(self, state: PolicyState, label: LabelError) -> PolicyState:
        """See :class:`Policy`.

        >>> FixedPolicy(train_steps=4, every=10).after_label(
        ...     PolicyState(), LabelError(step=4, error=0.1, elapsed=1, reason="start")).gap
        10.0
        """
        if label.step < self.train_steps:
            return replace(state, gap=1.0, by_engine=True)
        return replace(state, gap=float(self.every), by_engine=False)

    def audit_share(self, state: PolicyState, *, length: int) -> float:
        """None is audited: the schedule is that of the talk."""
        return 0.0

    def guard_fires(self, state: PolicyState, predicted_error: float, *, step: int) -> bool:
        """Never: the schedule does not depend on the model."""
        return False

    def guard_level(self, state: PolicyState) -> float:
        """None: the guard never fires."""
        return math.inf

    def trusted_level(self, state: PolicyState, *, step: int) -> float:
        """Any error is committed."""
        return math.inf

    def bond_fires(self, state: PolicyState, predicted_error: float) -> bool:
        """Never, as the guard."""
        return False

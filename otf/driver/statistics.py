"""Statistics of a run: model errors by kind of label, target, sampling."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from otf.arrays import Floats
from otf.driver.policy import Reason
from otf.driver.records import LabelRecord
from otf.dynamics.hybrid_monte_carlo import SamplerState
from otf.units import MEV

KINDS: Mapping[str, tuple[Reason, ...]] = {
    "scheduled": ("scheduled", "end"),
    "audits": ("audit",),
    "triggered": ("guard", "bond", "explosion"),
    "proposals": ("proposal",),
}
"""Scheduled labels end a gap, where the error is largest; triggered ones were requested by the
model and are harder than most. Audits are steps of the trajectory as it was committed. Proposals
end a segment of hybrid Monte Carlo."""

_FEWEST = 3  # audits, for an estimate
_USUAL_SCATTER, _USUAL_WEIGHT = 0.5, 4  # relative to the mean, and in audits


@dataclass(frozen=True)
class LabelStatistics:
    """Errors measured at labels before they were learned.

    Attributes
    ----------
    force_mae_meV_A, force_p95_meV_A
        Mean and 95th percentile of the labels' mean absolute force errors.
    coverage_percent
        Share of force components within two predicted errors.
    """

    labels: int
    force_mae_meV_A: float
    force_p95_meV_A: float
    energy_mae_meV_atom: float
    coverage_percent: float


def statistics(
    history: tuple[LabelRecord, ...], reasons: tuple[Reason, ...]
) -> LabelStatistics | None:
    """Error statistics of the labels taken for these reasons; None if there are none.

    Labels of the start (consecutive steps, easier than the rest) are not included.
    """
    chosen = [r for r in history if r.reason in reasons and not math.isnan(r.force_mae)]
    if not chosen:
        return None
    coverage = [r.coverage for r in chosen if not math.isnan(r.coverage)]
    mae = 1e3 * np.array([r.force_mae for r in chosen])
    return LabelStatistics(
        labels=len(chosen),
        force_mae_meV_A=float(mae.mean()),
        force_p95_meV_A=float(np.percentile(mae, 95)),
        energy_mae_meV_atom=_energy_mae(chosen, np.ones(len(chosen))) / MEV,
        coverage_percent=float(1e2 * np.mean(coverage)) if coverage else math.nan,
    )


def _energy_mae(records: list[LabelRecord], weights: Floats) -> float:
    """Weighted mean absolute error of the energies that were learned, eV/atom; NaN if none was."""
    errors = np.abs([r.energy_error for r in records])
    known = np.isfinite(errors)
    return float(np.average(errors[known], weights=weights[known])) if known.any() else math.nan


@dataclass(frozen=True)
class TrajectoryError:
    """Force error of the committed trajectory where the model drives it, with its bounds.

    The mean of the audits, each weighted by the steps that it stands for. Of few audits
    the scatter is hardly known: its estimate starts from half the mean, with the weight of four.

    Source: Särndal, Swensson and Wretman, Model Assisted Survey Sampling (1992), sec. 5.7 (weighted
    mean of a sample drawn with unequal probabilities).

    Attributes
    ----------
    audits
        Number of labels at random steps of the trajectory.
    force_mae_meV_A, low_meV_A, high_meV_A
        Mean absolute error of the force components, and its one-sided confidence bounds.
    force_p95_meV_A
        95th percentile of the absolute errors of the force components.
    energy_mae_meV_atom
        Mean absolute error of the energy.
    confidence_percent
        Confidence of each bound.
    """

    audits: int
    force_mae_meV_A: float
    low_meV_A: float
    high_meV_A: float
    force_p95_meV_A: float
    energy_mae_meV_atom: float
    confidence_percent: float

    def in_words(self) -> str:
        """The error and what it is known from."""
        return (
            f"force MAE {self.force_mae_meV_A:.2f} meV/A in [{self.low_meV_A:.2f}, "
            f"{self.high_meV_A:.2f}], at {self.audits} random steps of the trajectory"
        )


def trajectory_error(
    history: tuple[LabelRecord, ...], *, confidence_percent: float
) -> TrajectoryError | None:
    """The error of the committed trajectory from the labels so far; None with too few audits.

    Parameters
    ----------
    confidence_percent
        Confidence of each of the two bounds, by Student's t.
    """
    audits = [r for r in history if r.reason == "audit"]
    if len(audits) < _FEWEST:
        return None
    steps = np.array([r.stands_for for r in audits])
    share = steps / steps.sum()
    errors = np.array([r.force_mae for r in audits]) / MEV
    mean = float(share @ errors)
    spare = len(audits) - 1
    variance = len(audits) / spare * float(np.sum((share * (errors - mean)) ** 2))
    usual = (_USUAL_SCATTER * mean) ** 2 * float(np.sum(share**2))
    spare += _USUAL_WEIGHT
    deviation = math.sqrt(((spare - _USUAL_WEIGHT) * variance + _USUAL_WEIGHT * usual) / spare)
    width = float(stdtrit(spare, 0.01 * confidence_percent)) * deviation
    return TrajectoryError(
        audits=len(audits),
        force_mae_meV_A=mean,
        low_meV_A=max(0.0, mean - width),
        high_meV_A=mean + width,
        force_p95_meV_A=float(share @ [r.force_p95 for r in audits]) / MEV,
        energy_mae_meV_atom=_energy_mae(audits, share) / MEV,
        confidence_percent=confidence_percent,
    )


@dataclass(frozen=True)
class Contract:
    """Whether the force error of the trajectory stayed below its target.

    Attributes
    ----------
    unphysical
        Why the trajectory is not that of any system, whatever the force error; empty if it may be.
    """

    target_meV_A: float
    error: TrajectoryError
    unphysical: str = ""

    @property
    def verdict(self) -> Literal["kept", "broken", "undecided", "void"]:
        """Kept if the high bound is below the target, broken if the low bound is above it.

        Void if something else is wrong with the trajectory.
        """
        if self.unphysical:
            return "void"
        if self.error.high_meV_A <= self.target_meV_A:
            return "kept"
        return "broken" if self.error.low_meV_A > self.target_meV_A else "undecided"

    @property
    def judgement(self) -> str:
        """The verdict in words, with a remedy."""
        words = {
            "kept": f"kept at {self.error.confidence_percent:g} % confidence",
            "broken": "NOT kept; a longer run, a larger model or smoother engine forces may do it",
            "undecided": "not decided: it is between the bounds",
            "void": f"not judged: {self.unphysical}",
        }[self.verdict]
        return f"target {self.target_meV_A:g} meV/A {words}"

    def in_words(self) -> str:
        """The verdict and the error."""
        return f"{self.judgement}: {self.error.in_words()}"


@dataclass(frozen=True)
class Sampling:
    """Acceptance statistics of hybrid Monte Carlo.

    Attributes
    ----------
    burn_in
        Proposals the model has learned from.
    proposals, accepted_percent
        Proposals after the burn-in, with the model fixed, and their acceptance.
    mean_steps
        Mean length of their segments: the steps per engine call.
    """

    burn_in: int
    proposals: int
    accepted_percent: float
    mean_steps: float


def sampling(
    history: tuple[LabelRecord, ...], state: SamplerState | None, *, steps: int
) -> Sampling | None:
    """Statistics after so many proposals; None if nothing was sampled."""
    if state is None:
        return None
    lengths = [r.elapsed for r in history if r.reason == "proposal"]
    return Sampling(
        burn_in=steps - state.tried,
        proposals=state.tried,
        accepted_percent=1e2 * state.accepted / state.tried if state.tried else math.nan,
        mean_steps=float(np.mean(lengths)) if lengths else math.nan,
    )


def by_kind(history: tuple[LabelRecord, ...]) -> dict[str, LabelStatistics]:
    """Label statistics for each of :data:`KINDS` that occurred."""
    found = {kind: statistics(history, reasons) for kind, reasons in KINDS.items()}
    return {kind: value for kind, value in found.items() if value is not None}

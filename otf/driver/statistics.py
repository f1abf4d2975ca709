"""What the labels of a run say about its model, sorted by why they were taken."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from otf.driver.policy import UNTRIGGERED, Reason
from otf.driver.records import LabelRecord

KINDS: Mapping[str, tuple[Reason, ...]] = {
    "scheduled": ("scheduled", "end"),
    "random": ("audit",),
    "triggered": ("guard", "explosion"),
}
"""Scheduled labels end a gap, where the error is largest; random ones fall anywhere in it, as the
frames of the trajectory do; triggered ones were asked for by the model and are harder than most."""


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
    history: tuple[LabelRecord, ...], reasons: tuple[Reason, ...] = UNTRIGGERED
) -> LabelStatistics | None:
    """Over the labels taken for these reasons; None where there are none.

    The start (consecutive steps, easier than the rest) never counts.
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
        energy_mae_meV_atom=float(1e3 * np.mean([abs(r.energy_error) for r in chosen])),
        coverage_percent=float(1e2 * np.mean(coverage)) if coverage else math.nan,
    )


def by_kind(history: tuple[LabelRecord, ...]) -> dict[str, LabelStatistics]:
    """The same for each of :data:`KINDS` that occurred."""
    found = {kind: statistics(history, reasons) for kind, reasons in KINDS.items()}
    return {kind: value for kind, value in found.items() if value is not None}

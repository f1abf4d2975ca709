"""Wall time of a run, and what its engine alone would have taken."""

from dataclasses import dataclass

import numpy as np

from otf.driver.records import LabelRecord

_FEWEST = 2  # labels right after another one, to measure the engine's own steps


@dataclass(frozen=True)
class Cost:
    """Wall time of a run over all its sessions, and that of its engine alone.

    A step of the engine alone is taken to cost what labels right after another one do, since
    those start from a density as close as its own dynamics would have. A process for each label
    may still cost more than that.

    Attributes
    ----------
    wall_s
        Wall time of the run, learning and repeated integration included, s.
    engine_s
        The part of it in the engine.
    step_s
        Estimated time of a step of the engine alone.
    alone_s
        Estimated time of all steps of the engine alone.
    """

    wall_s: float
    engine_s: float
    step_s: float
    alone_s: float

    @property
    def saved_percent(self) -> float:
        """Time saved relative to the engine alone; negative if it would have been faster.

        >>> Cost(wall_s=25.0, engine_s=20.0, step_s=1.0, alone_s=100.0).saved_percent
        75.0
        """
        return 100.0 * (1.0 - self.wall_s / self.alone_s) if self.alone_s else 0.0

    def in_words(self) -> str:
        """The cost in a line."""
        gain = (
            f"{self.saved_percent:.1f} % saved"
            if self.saved_percent > 0.0
            else "nothing saved: the engine is this cheap"
        )
        return (
            f"{self.wall_s:.1f} s, {self.engine_s:.1f} s of it in the engine; the engine alone, at "
            f"{self.step_s:.3g} s a step, {self.alone_s:.1f} s ({gain})"
        )


def cost_of(
    history: tuple[LabelRecord, ...], *, wall_s: float, steps: int, further_s: float = 0.0
) -> Cost:
    """The cost of a run.

    Parameters
    ----------
    wall_s
        Wall time of all sessions, s.
    steps
        Timesteps so far.
    further_s
        Time in the engine for labels that are not in the history.
    """
    walls = [r.wall_s for r in history]
    close = [r.wall_s for r in history if r.reason in ("start", "engine") and r.elapsed == 1]
    step_s = float(np.mean(walls)) if walls else 0.0
    if len(close) >= _FEWEST:
        step_s = float(np.median(close))
    return Cost(wall_s, sum(walls) + further_s, step_s, (steps + 1) * step_s)


def labelled_percent(labels: int, steps: int) -> float:
    """Share of the structures of a run that were labelled, of which the first is step 0.

    >>> labelled_percent(3, 2), labelled_percent(10, 999)
    (100.0, 1.0)
    """
    return min(100.0, 100.0 * labels / (steps + 1))

"""The g(r) of a report, and what the error of the model does to it."""

import functools
import html
from dataclasses import replace

import numpy as np

from otf.analysis.blocks import Estimate
from otf.analysis.curves import Curves
from otf.analysis.rdf import rdf
from otf.errors import RunError
from otf.io.committed import Trajectory
from otf.io.frames import Frames
from otf.io.read_frames import frames_of_run
from otf.postprocess.reweighted import reweighted
from otf.runs.directory import RunDirectory

MOST_FRAMES = 2000
"""Frames that the g(r) of a report is averaged over."""

_CUTOFF_A, _BIN_A = 6.0, 0.05
_OF_NOISE = np.sqrt(2.0 / np.pi)  # mean of the absolute value of a normal deviate

radial = functools.partial(rdf, cutoff_A=_CUTOFF_A, bin_A=_BIN_A)


def last_stage(run: RunDirectory, t: Trajectory, *, most: int) -> Frames:
    """At most about so many frames of the last stage of a run, evenly spread."""
    rows = np.flatnonzero(t.stage == t.stage.max())
    return frames_of_run(run.trajectory, rows[:: max(1, len(rows) // most)])


def radial_distributions(run: RunDirectory, t: Trajectory) -> tuple[str, Curves]:
    """Text on the g(r) of the last stage, and its curves, with ``…_corrected`` where possible."""
    frames = last_stage(run, t, most=MOST_FRAMES)
    curves = radial([frames])
    text = f"Over {len(frames)} frames of the last stage, with two standard errors."
    effect, corrected = _effect(run, frames, curves)
    return f"{text} {effect}", replace(curves, y=curves.y | corrected)


def _effect(run: RunDirectory, frames: Frames, curves: Curves) -> tuple[str, dict[str, Estimate]]:
    """What the error of the model does to g(r), in words, and the corrected curves."""
    try:
        found = reweighted(run.path, frames, lambda some: radial([some]))
    except RunError:  # exact sampling
        return "", {}
    changes, corrected = [], {}
    for name in [name for name in curves.y if name.startswith("g_")]:
        shift = found.y.get(f"{name}_shift")
        if shift is None:
            why = next((note for note in found.notes if note.startswith("correction")), "")
            unknown = "What the error of the model does to them is not known"
            return f"{unknown} ({html.escape(why)}).", {}
        area = np.abs(curves.y[name].mean).sum()
        if area == 0.0:  # a species with a single atom, or one that stays far away
            continue
        corrected[f"{name}_corrected"] = found.y[name]
        pair = name.removeprefix("g_").removesuffix("_per_A").replace("_", "-")
        moved = 100.0 * np.abs(shift.mean).sum() / area
        noise = 100.0 * _OF_NOISE * np.nansum(shift.error) / area
        changes.append(f"{pair} {moved:.1f} % (noise of this estimate {noise:.1f} %)")
    text = (
        "By the labels of the run, the error of the model moves this share of their area: "
        f"{', '.join(changes)}; dotted, the corrected curves "
        f"(<code>otf analyse rdf {html.escape(str(run.path))} --reweight</code>)."
    )
    return text, corrected

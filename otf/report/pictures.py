"""Figures of a report, as SVG that inherits the text colour of the page, for dark mode."""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from otf.analysis.curves import Curves
from otf.arrays import Floats
from otf.driver.records import LabelRecord
from otf.driver.statistics import KINDS
from otf.io.committed import Trajectory
from otf.units import MEV

_INK = "#010203"  # placeholder for the text colour of the page
_COLOURS = {"scheduled": "#3b82d0", "audits": "#2a9d60", "triggered": "#d9822b"} | {
    "proposals": "#3b82d0"
}
_MOST_POINTS = 700

Draw = Callable[[Any], None]


def picture(draw: Draw, *, name: str, height: float = 2.9, square: bool = False) -> str:
    """Draw a figure and return it as SVG: one for wide and one for narrow screens.

    Parameters
    ----------
    draw
        Function that draws on the axes.
    name
        Prefix of all ids in the elements, to make them unique in the page.
    square
        Whether both axes have the same length.
    """
    wide, narrow = (4.6, 4.2) if square else (6.4, height), (3.6, 3.4 if square else 2.7)
    shape = " square" if square else ""
    return (
        f'<div class="wide{shape}">{_svg(draw, name, wide)}</div>'
        f'<div class="narrow">{_svg(draw, f"narrow-{name}", narrow)}</div>'
    )


def _svg(draw: Draw, name: str, size: tuple[float, float]) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {f"{p}.color": _INK for p in ("text", "xtick", "ytick")} | {
        "axes.edgecolor": _INK,
        "axes.labelcolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
        "font.size": 9,
        "svg.hashsalt": name,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r'(width|height)="[\d.]+pt" ', "", text, count=2)
    return re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)


def kind_of(record: LabelRecord) -> str | None:
    """Kind of a label, a key of :data:`~otf.driver.statistics.KINDS`, or None."""
    return next((kind for kind, reasons in KINDS.items() if record.reason in reasons), None)


def timeline(history: tuple[LabelRecord, ...], *, timestep_fs: float, target: float | None) -> Draw:
    """Measured errors of the labels over time."""

    def draw(axes: Any) -> None:
        if target is not None:
            axes.axhline(target, color=_INK, lw=0.8, ls="--", label="target")
        axes.set_xlabel("time, ps")
        _errors_over(axes, history, lambda r: 1e-3 * timestep_fs * r.step)

    return draw


def by_distance(history: tuple[LabelRecord, ...], *, target: float | None) -> Draw:
    """Measured errors over the steps since the previous label."""

    def draw(axes: Any) -> None:
        if target is not None:
            axes.axhline(target, color=_INK, lw=0.8, ls="--", label="target")
        axes.set_xlabel("steps since the previous label")
        _errors_over(axes, history, lambda r: float(r.elapsed))

    return draw


def _errors_over(
    axes: Any, history: tuple[LabelRecord, ...], place: Callable[[LabelRecord], float]
) -> None:
    """Plot a point for each label, coloured by its kind."""
    for kind, colour in _COLOURS.items():
        mine = [r for r in history if kind_of(r) == kind]
        if mine:
            errors = [r.force_mae / MEV for r in mine]
            axes.plot([place(r) for r in mine], errors, ".", color=colour, label=kind)
    axes.set_ylabel("force error, meV/Å")
    axes.set_ylim(bottom=0.0)
    axes.legend(frameon=False, fontsize="small")


def labels_so_far(history: tuple[LabelRecord, ...], *, timestep_fs: float, steps: int) -> Draw:
    """Number of labels over time."""

    def draw(axes: Any) -> None:
        times = [1e-3 * timestep_fs * step for step in sorted(r.step for r in history)]
        counts = np.arange(1, len(times) + 1)
        end = 1e-3 * timestep_fs * steps
        axes.step([*times, end], [*counts, len(times)], where="post", color="#3b82d0")
        axes.set_xlabel("time, ps")
        axes.set_ylabel("labels so far")
        axes.set_ylim(bottom=0.0)

    return draw


def parity(predicted: Floats, true: Floats) -> Draw:
    """Force components of the model against those of the engine, eV/Angstrom."""

    def draw(axes: Any) -> None:
        low, high = float(min(predicted.min(), true.min())), float(max(predicted.max(), true.max()))
        axes.plot([low, high], [low, high], color=_INK, lw=0.8)
        every = max(1, len(true) // _MOST_POINTS)
        axes.plot(true[::every], predicted[::every], ".", ms=3, color="#3b82d0")
        axes.set_aspect("equal")
        axes.set_xlabel("engine, eV/Å")
        axes.set_ylabel("model, eV/Å")

    return draw


def coverage(history: tuple[LabelRecord, ...]) -> Draw:
    """Measured against predicted errors."""
    from matplotlib.ticker import LogLocator, NullFormatter

    def draw(axes: Any) -> None:
        known = [r for r in history if kind_of(r) and np.isfinite(r.predicted) and r.force_mae > 0]
        if known:
            predicted = np.array([r.predicted for r in known]) / MEV
            # For normal errors the mean absolute error is sqrt(2/pi) of the root mean square.
            measured = np.array([r.force_mae for r in known]) / MEV / np.sqrt(2.0 / np.pi)
            low, high = (f([predicted.min(), measured.max(), measured.min()]) for f in (min, max))
            high = max(high, predicted.max())
            axes.loglog([low, high], [low, high], color=_INK, lw=0.8)
            axes.fill_between([low, high], [low / 2, high / 2], [low * 2, high * 2], alpha=0.15)
            axes.loglog(predicted, measured, ".", color=_COLOURS["scheduled"])
            for axis in (axes.xaxis, axes.yaxis):  # few, so that they do not collide
                axis.set_major_locator(LogLocator(numticks=4))
                axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("predicted error, meV/Å")
        axes.set_ylabel("measured, meV/Å")

    return draw


def ledger(t: Trajectory, history: tuple[LabelRecord, ...], *, timestep_fs: float) -> Draw:
    """Conserved energy and energy discontinuities over time."""

    def draw(axes: Any) -> None:
        time = 1e-3 * t.time_fs
        conserved = (t.conserved_energy - t.conserved_energy[0]) / MEV
        axes.plot(*thinned(time, conserved), lw=1.0, label="conserved energy", color="#3b82d0")
        axes.plot(
            *thinned(time, t.energy_discontinuity / MEV),
            lw=1.0,
            label="energy discontinuities",
            color="#d9822b",
        )
        ends = [r for r in history if r.reason != "audit"]
        total = [(r.total_energy - ends[0].total_energy) / MEV for r in ends]
        steps = [1e-3 * timestep_fs * r.step for r in ends]
        axes.plot(steps, total, ".", color="#2a9d60", label="K + E of the engine, at labels")
        axes.set_xlabel("time, ps")
        axes.set_ylabel("change, meV")
        axes.legend(frameon=False, fontsize="small")

    return draw


def series(time_fs: Floats, values: Floats, label: str, *, target: float | None = None) -> Draw:
    """A scalar quantity over time."""
    return several({"": (time_fs, values)}, label, target=target)


def several(
    curves: Mapping[str, tuple[Floats, Floats]], label: str, *, target: float | None = None
) -> Draw:
    """Times and values of a scalar quantity, by the names of what they are of."""

    def draw(axes: Any) -> None:
        for name, (time_fs, values) in curves.items():
            colour = {} if name else {"color": "#3b82d0"}
            axes.plot(*thinned(1e-3 * time_fs, values), lw=0.8, label=name, **colour)
        if target is not None:
            axes.axhline(target, color=_INK, lw=0.8, ls="--", label="thermostat")
        if target is not None or len(curves) > 1:
            axes.legend(frameon=False, fontsize="small", ncols=2)
        axes.set_xlabel("time, ps")
        axes.set_ylabel(label)

    return draw


def distributions(curves: Curves) -> Draw:
    """g(r) with two standard errors, and dotted where it is corrected for the model's error."""

    def draw(axes: Any) -> None:
        for name, found in curves.y.items():
            shown = name.startswith("g_") and not name.endswith("_corrected")
            if shown and found.mean.any():
                label = name.removeprefix("g_").removesuffix("_per_A").replace("_", "-")
                (line,) = axes.plot(curves.x, found.mean, lw=1.1, label=label)
                low, high = found.mean - 2 * found.error, found.mean + 2 * found.error
                axes.fill_between(curves.x, low, high, color=line.get_color(), alpha=0.3, lw=0)
                corrected = curves.y.get(f"{name}_corrected")
                if corrected is not None:
                    axes.plot(curves.x, corrected.mean, ":", lw=1.1, color=line.get_color())
        axes.set_xlabel("r, Å")
        axes.set_ylabel("g(r)" if not curves.notes else "atoms per Å")
        axes.legend(frameon=False, fontsize="small", ncols=2)

    return draw


def iterations(history: tuple[LabelRecord, ...]) -> Draw:
    """SCF iterations of the labels."""

    def draw(axes: Any) -> None:
        known = [r for r in history if r.scf_iterations is not None]
        cycles = [r.scf_iterations for r in known]
        axes.plot([r.index for r in known], cycles, ".", color="#3b82d0")
        axes.set_xlabel("label")
        axes.set_ylabel("SCF cycles")
        axes.set_ylim(bottom=0)

    return draw


def thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Thin a curve to limit the number of points, and so the size of the page."""
    every = max(1, len(x) // _MOST_POINTS)
    return x[::every], y[::every]

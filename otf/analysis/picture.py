"""Plots of curves with their errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from otf.analysis.curves import Curves
from otf.errors import RunError


def draw(curves: Curves, path: Path) -> None:
    """Plot curves to a ``.png``, ``.svg`` or ``.pdf`` file; two standard errors are shaded."""
    figure = _figure()
    axes = figure.subplots()
    if curves.ticks:
        _draw_along_path(axes, curves)
    else:
        for name in curves.y:
            _line(axes, curves, name, name)
        axes.legend(fontsize="small", frameon=False)
    _finish(figure, axes, curves, path)


def draw_together(results: Mapping[str, Curves], path: Path) -> None:
    """Plot the curves of several runs, a panel for each kind, without coordination numbers."""
    first = next(iter(results.values()))
    kinds = [name for name in first.y if not name.startswith("coordination")]
    figure = _figure(height=1.0 + 2.2 * len(kinds))
    panels = figure.subplots(len(kinds), squeeze=False)[:, 0]
    for axes, kind in zip(panels, kinds, strict=True):
        for run, curves in results.items():
            _line(axes, curves, kind, run)
        axes.set_ylabel(kind)
    panels[-1].legend(fontsize="small", frameon=False)
    _finish(figure, panels[-1], first, path)


def _figure(*, height: float = 4.2) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.0, height), layout="constrained")


def _line(axes: Any, curves: Curves, name: str, label: str) -> None:
    found = curves.y[name]
    (line,) = axes.plot(curves.x, found.mean, lw=1.2, label=label)
    low, high = found.mean - 2.0 * found.error, found.mean + 2.0 * found.error
    axes.fill_between(curves.x, low, high, color=line.get_color(), alpha=0.25, lw=0)


def _draw_along_path(axes: Any, curves: Curves) -> None:
    """Curves of one kind between special points, interrupted where the path is."""
    breaks = np.flatnonzero(np.diff(curves.x) == 0.0) + 1
    x = np.insert(curves.x, breaks, np.nan)
    for found in curves.y.values():
        mean, error = (np.insert(values, breaks, np.nan) for values in (found.mean, found.error))
        axes.plot(x, mean, lw=1.2, color="C0")
        axes.fill_between(x, mean - 2.0 * error, mean + 2.0 * error, color="C0", alpha=0.25, lw=0)
    names: dict[float, str] = {}
    for position, name in curves.ticks:
        symbol = name.replace("G", "\u0393")
        names[position] = f"{names[position]}|{symbol}" if position in names else symbol
    for position in names:
        axes.axvline(position, color="0.8", lw=0.8, zorder=0)
    axes.set_xticks(list(names), list(names.values()))
    axes.set_xlim(curves.x[0], curves.x[-1])
    axes.set_ylabel("energy above the highest occupied level, eV")
    if curves.level is not None:
        value, name = curves.level
        axes.axhline(value, color="0.3", lw=0.8, ls="--")
        axes.annotate(name, (1.0, value), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                      textcoords="offset points", ha="right", fontsize="small")  # fmt: skip


def _finish(figure: Any, axes: Any, curves: Curves, path: Path) -> None:
    axes.set_xlabel(curves.x_name)
    figure.suptitle(curves.title, fontsize="medium")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be drawn ({error}); choose another name") from error

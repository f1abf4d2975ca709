"""Plots of curves with their errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otf.analysis.curves import Curves
from otf.errors import RunError


def draw(curves: Curves, path: Path) -> None:
    """Plot curves to a ``.png``, ``.svg`` or ``.pdf`` file; two standard errors are shaded."""
    figure = _figure()
    axes = figure.subplots()
    for name in curves.y:
        _line(axes, curves, name, name)
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
    _finish(figure, panels[-1], first, path)


def _figure(*, height: float = 4.2) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.0, height), layout="constrained")


def _line(axes: Any, curves: Curves, name: str, label: str) -> None:
    found = curves.y[name]
    (line,) = axes.plot(curves.x, found.mean, lw=1.2, label=label)
    low, high = found.mean - 2.0 * found.error, found.mean + 2.0 * found.error
    axes.fill_between(curves.x, low, high, color=line.get_color(), alpha=0.25, lw=0)


def _finish(figure: Any, axes: Any, curves: Curves, path: Path) -> None:
    axes.set_xlabel(curves.x_name)
    axes.legend(fontsize="small", frameon=False)
    figure.suptitle(curves.title, fontsize="medium")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be drawn ({error}); choose another name") from error

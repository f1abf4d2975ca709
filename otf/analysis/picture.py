"""A picture of curves with their errors."""

from pathlib import Path

from otf.analysis.curves import Curves
from otf.errors import RunError


def draw(curves: Curves, path: Path) -> None:
    """Draw to ``.png``, ``.svg`` or ``.pdf``; two standard errors are shaded.

    Raises
    ------
    RunError
        If matplotlib is missing.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RunError(
            f"{path}: pictures need matplotlib; install it: pip install 'otf-aimd[report]'"
        ) from error
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, found in curves.y.items():
        (line,) = axes.plot(curves.x, found.mean, lw=1.2, label=name)
        axes.fill_between(
            curves.x,
            found.mean - 2.0 * found.error,
            found.mean + 2.0 * found.error,
            color=line.get_color(),
            alpha=0.25,
            lw=0,
        )
    axes.set_xlabel(curves.x_name)
    axes.set_title(curves.title, fontsize="medium")
    axes.legend(fontsize="small", frameon=False)
    figure.savefig(path, dpi=150)

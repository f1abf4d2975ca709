"""Results of an analysis: curves over one axis, with standard errors."""

from dataclasses import dataclass

from otf.analysis.blocks import Estimate
from otf.arrays import Floats


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves over one axis, with standard errors.

    Attributes
    ----------
    title
        Human-readable title.
    x_name
        Name of the axis with its unit, such as ``r_A``.
    x
        (points,) values of the axis.
    y
        Curves by name, with the unit in the name; errors are NaN if unknown.
    numbers
        Scalar results by name, with the unit in the name.
    notes
        Remarks for the user.
    ticks
        Names of positions on the axis, such as special points; curves are of one kind then.
    level
        A value of the curves to mark, such as the Fermi level, with its name.
    """

    title: str
    x_name: str
    x: Floats
    y: dict[str, Estimate]
    numbers: dict[str, Estimate]
    notes: tuple[str, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()
    level: tuple[float, str] | None = None

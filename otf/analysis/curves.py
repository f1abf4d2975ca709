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
    """

    title: str
    x_name: str
    x: Floats
    y: dict[str, Estimate]
    numbers: dict[str, Estimate]
    notes: tuple[str, ...] = ()

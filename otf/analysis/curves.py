"""What every analysis returns: curves over one axis, each with its standard error."""

from dataclasses import dataclass

from otf.analysis.blocks import Estimate
from otf.arrays import Floats


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves over one axis.

    Attributes
    ----------
    title
        What they are, for people.
    x_name
        Of the axis, with its unit, such as ``r_A``.
    x
        (points,).
    y
        By names with their units; errors are NaN where they are not known.
    numbers
        Single results, by names with their units.
    notes
        What to bear in mind.
    """

    title: str
    x_name: str
    x: Floats
    y: dict[str, Estimate]
    numbers: dict[str, Estimate]
    notes: tuple[str, ...] = ()

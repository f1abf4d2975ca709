"""The ``dynamics.bias`` key: potentials of collective variables, added to the forces."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, NonNegativeInt, model_validator

from otf.config.section import PositiveFloat, Section

_ATOMS = {"distance": 2, "difference": 4, "angle": 3, "torsion": 4}
_UNITS = {"A": False, "A2": False, "degrees": True, "rad2": True}
Finite = Annotated[float, Field(allow_inf_nan=False)]
Numbers = list[NonNegativeInt]


class CollectiveVariable(Section):
    """A function of the positions of some atoms, which are numbered from 0."""

    distance: Numbers | None = Field(None, description="two atoms")
    difference: Numbers | None = Field(
        None, description="four atoms: the distance of the first two minus that of the others"
    )
    angle: Numbers | None = Field(None, description="three atoms, the second at the vertex")
    torsion: Numbers | None = Field(None, description="four atoms")

    @model_validator(mode="after")
    def _has_one_variable(self) -> Self:
        given = [name for name in _ATOMS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of {', '.join(_ATOMS)}; found {' and '.join(given) or 'none'}"
            )
        atoms = self.atoms
        if len(atoms) != _ATOMS[self.variable]:
            raise ValueError(f"{self.variable} needs {_ATOMS[self.variable]} atoms")
        pairs = (atoms[:2], atoms[2:]) if self.variable == "difference" else (atoms,)
        if any(len(set(part)) < len(part) for part in pairs):
            raise ValueError(f"{self.variable}: an atom is named twice")
        for name in type(self).model_fields:
            of_angle = _UNITS.get(name.rpartition("_")[2], self.is_angle)
            if of_angle != self.is_angle and getattr(self, name) is not None:
                raise ValueError(f"{name} does not have the unit of the {self.variable}")
        return self

    @property
    def variable(self) -> Literal["distance", "difference", "angle", "torsion"]:
        """Which function it is."""
        for name in ("distance", "difference", "angle"):
            if getattr(self, name) is not None:
                return name
        return "torsion"

    @property
    def atoms(self) -> tuple[int, ...]:
        """Its atoms."""
        return tuple(getattr(self, self.variable))

    @property
    def is_angle(self) -> bool:
        """Whether its unit is the degree; otherwise it is the Angstrom."""
        return self.variable in ("angle", "torsion")

    def in_radians(self, name: str) -> float | None:
        """A key that ends in the unit of the variable, in Angstrom or radians; None if left out."""
        value = getattr(self, f"{name}_degrees" if self.is_angle else f"{name}_A")
        return value if value is None or not self.is_angle else math.radians(value)

    def _require(self, name: str) -> None:
        if self.in_radians(name) is None:
            raise ValueError(f"{name}_{'degrees' if self.is_angle else 'A'} is missing")


class _Spring(CollectiveVariable):
    constant_eV_A2: PositiveFloat | None = Field(None, description="force constant of a distance")
    constant_eV_rad2: PositiveFloat | None = Field(None, description="force constant of an angle")

    @model_validator(mode="after")
    def _has_constant(self) -> Self:
        if self.constant is None:
            raise ValueError(f"constant_eV_{'rad2' if self.is_angle else 'A2'} is missing")
        return self

    @property
    def constant(self) -> float | None:
        """Force constant, eV/Angstrom^2 or eV/rad^2."""
        return self.constant_eV_rad2 if self.is_angle else self.constant_eV_A2


class Restraint(_Spring):
    """A harmonic potential around a value."""

    kind: Literal["restraint"]
    at_A: Finite | None = Field(None, description="centre, of a distance or difference")
    at_degrees: Finite | None = Field(None, description="centre, of an angle or torsion")

    @model_validator(mode="after")
    def _has_centre(self) -> Self:
        self._require("at")
        return self


class Walls(_Spring):
    """Harmonic walls, beyond which the variable is pushed back."""

    kind: Literal["walls"]
    above_A: Finite | None = Field(None, description="lower wall, of a distance or difference")
    above_degrees: Finite | None = Field(None, description="the same, of an angle or torsion")
    below_A: Finite | None = Field(None, description="upper wall, of a distance or difference")
    below_degrees: Finite | None = Field(None, description="the same, of an angle or torsion")

    @model_validator(mode="after")
    def _has_walls(self) -> Self:
        low, high = self.in_radians("above"), self.in_radians("below")
        if low is None and high is None:
            raise ValueError("there is no wall: give above or below, with the unit")
        if low is not None and high is not None and low >= high:
            raise ValueError("above must be smaller than below")
        if self.variable == "torsion":
            if low is None or high is None:
                raise ValueError("a torsion goes around: give both above_degrees and below_degrees")
            if high - low >= 2.0 * math.pi:
                raise ValueError("above and below must be less than 360 degrees apart")
        return self


class Along(CollectiveVariable):
    """A variable of metadynamics, with the width of the hills along it."""

    width_A: PositiveFloat | None = Field(None, description="width of a hill (standard deviation)")
    width_degrees: PositiveFloat | None = Field(None, description="of an angle")

    @model_validator(mode="after")
    def _has_width(self) -> Self:
        self._require("width")
        return self


class Metadynamics(Section):
    """Hills that fill the wells of the free energy along one or two variables."""

    kind: Literal["metadynamics"]
    along: Annotated[list[Along], Field(min_length=1, max_length=2)] = Field(
        description="the variables"
    )
    height_meV: PositiveFloat = Field(description="height of the first hills")
    every_fs: PositiveFloat = Field(description="time between hills")
    bias_factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = Field(
        10.0,
        description="gamma of well-tempered metadynamics, whose hills become lower; null: all of "
        "the same height",
    )


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, dict) else given


Term = Annotated[Restraint | Walls | Metadynamics, Field(discriminator="kind")]
Bias = Annotated[list[Term], BeforeValidator(_as_list)]
"""Potentials added to each other; a single one needs no list."""

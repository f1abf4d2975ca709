"""The ``model.baseline`` key: engines whose energy the model corrects."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from otf.config.engine_section import EngineSection

AUTO_BASELINE = "auto"
"""Kind of a baseline that is chosen for the system, and dropped where it is worth nothing."""


def _as_list(given: Any) -> Any:
    if given == AUTO_BASELINE:
        given = {"kind": given}
    return [given] if isinstance(given, dict) else given


class BaselineTerm(EngineSection):
    """An engine as a term of the baseline; further keys are its options."""

    use: Literal["exact", "prior_mean", "respa"] = Field(
        "exact",
        description="exact: the engine is evaluated at every step; prior_mean: a model of it is, "
        "which is trained by a simulation with this engine before the first step; respa: such a "
        "model at every step, and the engine at some of them (multiple time steps)",
    )
    every: PositiveInt | None = Field(
        None,
        description="respa: steps between evaluations of the engine; default: as many as leave the "
        "fluctuation of the total energy as it is with every step, but no more than 4",
    )

    @model_validator(mode="after")
    def _every_is_of_respa(self) -> Self:
        if self.every is not None and self.use != "respa":
            raise ValueError(f"every has no meaning with use: {self.use}; leave it out")
        return self


Baseline = Annotated[list[BaselineTerm], BeforeValidator(_as_list)]
"""Sections of engines; a single one needs no list, and the word auto is one of this kind."""

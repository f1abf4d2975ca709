"""The ``model.baseline`` key: engines whose energy the model corrects."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from otf.config.engine_section import EngineSection

AUTO_BASELINE = "auto"
"""Kind of a baseline that is chosen for the system, and dropped where it is worth nothing."""


def _as_list(given: Any) -> Any:
    if given == AUTO_BASELINE:
        given = {"kind": given}
    return [given] if isinstance(given, dict) else given


class BaselineTerm(EngineSection):
    """An engine as a term of the baseline; further keys are its options."""

    use: Literal["exact", "prior_mean"] = Field(
        "exact",
        description="exact: the engine is evaluated at every step; prior_mean: a model of it is, "
        "which is trained by a simulation with this engine before the first step",
    )


Baseline = Annotated[list[BaselineTerm], BeforeValidator(_as_list)]
"""Sections of engines; a single one needs no list, and the word auto is one of this kind."""

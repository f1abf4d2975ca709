"""The ``learn_from`` key: labels that a run starts with."""

from typing import Any

from pydantic import Field, model_validator

from otf.config.section import FilePath, Section


class LearnFrom(Section):
    """Labels of an earlier run or of a file; a path alone stands for one with defaults."""

    path: FilePath = Field(description="run directory, or a file of labelled structures")
    same_engine: bool = Field(
        False,
        description="the labels are of the same engine with the same settings, although this "
        "cannot be seen from them",
    )

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, given: Any) -> Any:
        return given if isinstance(given, dict) else {"path": given}

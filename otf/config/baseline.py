"""The ``model.baseline`` key: engines whose energy the model corrects."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from otf.config.engine_section import EngineSection

AUTO_BASELINE = "auto"
"""Kind of a baseline that is chosen for the system, and dropped where it is worth nothing."""


def _as_list(given: Any) -> Any:
    if given == AUTO_BASELINE:
        given = {"kind": given}
    return [given] if isinstance(given, dict) else given


Baseline = Annotated[list[EngineSection], BeforeValidator(_as_list)]
"""Sections of engines; a single one needs no list, and the word auto is one of this kind."""

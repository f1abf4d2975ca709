"""A section that names an engine."""

from typing import Any

from pydantic import ConfigDict, Field

from otf.config.section import Section


class EngineSection(Section):
    """An engine; further keys are its options."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    kind: str = Field(description="tblite, pyscf, ase, or any installed engine")

    @property
    def options(self) -> dict[str, Any]:
        """Options of the engine."""
        return dict(self.model_extra or {})

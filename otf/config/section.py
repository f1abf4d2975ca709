"""Base class and types of the sections of a configuration."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]
FilePath = Annotated[Path, Field(strict=False)]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, types are not converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

"""The ``learn_from`` key: labels that a run starts with."""

import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from otf.config.section import FilePath, Section

_STORE = "store"


def default_store() -> Path:
    """Folder of the user's store of labels: ``$OTF_STORE``, or one beside the user's other data."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(os.environ.get("OTF_STORE") or Path(data) / "otf" / "labels").expanduser()


class LearnFrom(Section):
    """Labels of an earlier run, of a file, or of a store.

    A path alone stands for one with defaults, and the word store for the user's own.
    """

    path: FilePath | None = Field(
        None, description="run directory, or a file of labelled structures"
    )
    store: FilePath | None = Field(
        None,
        description="instead of a path: folder of a store (otf store), whose fitting labels"
        " are all learned; default: that of otf store",
    )
    same_engine: bool = Field(
        False,
        description="the labels are of the same engine with the same settings, although this "
        "cannot be seen from them",
    )

    @model_validator(mode="before")
    @classmethod
    def _word_alone(cls, given: Any) -> Any:
        if given == _STORE:
            return {"store": str(default_store())}
        return given if isinstance(given, dict) else {"path": given}

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.store is None):
            raise ValueError("give either path or store")
        return self


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str | dict) else given


LearnFromAll = Annotated[list[LearnFrom], BeforeValidator(_as_list)]
"""Sources of labels; a single one needs no list."""

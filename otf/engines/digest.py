"""Digest of an engine's settings: labels of equal digests are of one potential energy surface."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from otf.engines.protocol import Engine
from otf.engines.registry import path_options


def engine_digest(engine: type[Engine], options: BaseModel) -> str:
    """Digest of all options that affect the labels, and of the files that they name.

    Input files count without structure and dynamics (:meth:`~.protocol.Engine.method_of`), folders
    by nothing.

    Raises
    ------
    EngineError
        If an input file cannot be read.
    """
    data: dict[str, Any] = options.model_dump(mode="json", exclude_none=True)
    for name in path_options(type(options)):
        given = getattr(options, name)
        if given is not None:
            path = Path(given)
            data[name] = engine.method_of(path) if path.is_file() else ""
    kept = {name: data[name] for name in sorted(data) if name not in engine.without_effect}
    text = json.dumps({"engine": engine.kind, **kept}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

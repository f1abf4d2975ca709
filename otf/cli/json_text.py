"""JSON output of the commands."""

import json
import math
from typing import Any


def to_json(value: Any) -> str:
    """Convert to JSON, with null for numbers that are not finite.

    >>> print(to_json({"error": float("nan")}))
    {
      "error": null
    }
    """
    return json.dumps(_plain(value), indent=2)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

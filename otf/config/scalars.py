"""YAML scalars by the rules of the 1.2 core schema (https://yaml.org/spec/1.2.2/)."""

import re
from typing import Any

SCALARS: list[tuple[re.Pattern[str], Any]] = [
    (re.compile(r"(?:null|Null|NULL|~|)\Z"), lambda _: None),
    (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), lambda text: text.lower() == "true"),
    (re.compile(r"[-+]?[0-9]+\Z"), int),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"), float),
    (
        re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"),
        lambda text: float(text.replace(".", "")),
    ),
]
"""Pattern of each kind of scalar, and its conversion."""


def looks_like_no_text(text: str) -> bool:
    """Whether unquoted text would be read as null, a truth value or a number.

    >>> [looks_like_no_text(t) for t in ("1e3", "true", "~", "def2-svp")]
    [True, True, True, False]
    """
    return any(pattern.match(text) for pattern, _ in SCALARS)

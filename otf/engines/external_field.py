"""External electric fields in input files, of which a model of distances and angles has no part."""

import logging
from collections.abc import Iterable

_LOG = logging.getLogger("otf.input")


def is_field(words: Iterable[str]) -> bool:
    """Whether one of the words is a number that is not zero.

    >>> is_field("0.0 0.0 0.5 V/Ang".split()), is_field("0.0 0.d0 0".split())
    (True, False)
    """
    return any(_number(word) for word in words)


def warn_of_field(source: str, keyword: str) -> None:
    """Warn that the model cannot represent the external field of an input file."""
    _LOG.warning(
        "%s: %s: in an external field the forces depend on directions in space, which the model "
        "does not have: it errs by that part of them. Look at the error that the run measures, or "
        "leave the field out",
        source,
        keyword,
    )


def _number(word: str) -> float:
    try:
        return float(word.lower().replace("d", "e"))
    except ValueError:
        return 0.0

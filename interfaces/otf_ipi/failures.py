"""Failures of a program that is sent structures: how each is detected, and the remedies to try."""

import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from otf.engines.failures import (
    FROM_SCRATCH,
    ONCE_MORE,
    KnownFailure,
    exit_code,
    printed,
    signal_number,
    timed_out,
)
from otf.engines.process import Finished


@dataclass(frozen=True)
class Evidence:
    """Output of a label.

    Attributes
    ----------
    finished
        How the process ended; exit code 0 for one that is still running.
    stdout
        Its output during this label.
    stderr
        Its error output.
    answered
        Whether it sent finite energy and forces.
    converged
        Whether the output says that the label converged; None if the program does not say so.
    warm
        Whether the process had computed labels before.
    """

    finished: Finished
    stdout: str
    stderr: str
    answered: bool
    converged: bool | None
    warm: bool


def not_converged(
    detect: Callable[[Evidence], str | None], remedies: tuple[str, ...]
) -> KnownFailure[Evidence]:
    """The failure of SCF to converge; ``remedies`` are the changes that the input allows."""
    return KnownFailure(
        "SCF not converged",
        detect,
        "raise the number of iterations or the smearing, or mix less, in the template",
        (FROM_SCRATCH, *remedies),
    )


def stopped(pattern: str) -> KnownFailure[Evidence]:
    """A stop whose reason is the last group of a regular expression."""
    compiled = re.compile(pattern, re.MULTILINE)

    def detect(evidence: Evidence) -> str | None:
        found = compiled.search(evidence.stdout)
        return " ".join(found.group(found.lastindex or 0).split()) if found else None

    return KnownFailure(
        "stopped", detect, "correct the template or the engine section", (FROM_SCRATCH,)
    )


def of_the_user(patterns: Mapping[str, str]) -> list[KnownFailure[Evidence]]:
    """Failures of ``engine.failures``, each with a name and a regular expression."""
    return [
        KnownFailure(name, printed(pattern), "see engine.failures", (FROM_SCRATCH,))
        for name, pattern in patterns.items()
    ]


def _killed(evidence: Evidence) -> str | None:
    number = signal_number(evidence.finished)
    return f"ended by signal {number}" if number not in (0, signal.SIGABRT) else None


def _ended(evidence: Evidence) -> str | None:
    if evidence.answered or evidence.finished.timed_out:
        return None
    code = evidence.finished.returncode
    return f"it ended (exit code {code}) or sent numbers that are not finite"


def _unproven(evidence: Evidence) -> str | None:
    return "its output does not say that it converged" if evidence.converged is False else None


HANGS: KnownFailure[Evidence] = KnownFailure(
    "hangs", timed_out, "give it more time with engine.timeout_s", (ONCE_MORE,)
)
GENERAL: tuple[KnownFailure[Evidence], ...] = (
    KnownFailure(
        "killed", _killed, "look for memory limits and other users' jobs", (ONCE_MORE, FROM_SCRATCH)
    ),
    KnownFailure("program error", exit_code, "look at its output", (ONCE_MORE,)),
    KnownFailure(
        "no results",
        _ended,
        "look at its output; does the command connect to the address it is given?",
        (ONCE_MORE,),
    ),
    KnownFailure(
        "not proven converged",
        _unproven,
        "raise the print level in the template, so that its output reports convergence, or correct "
        "engine.converged",
        (FROM_SCRATCH,),
    ),
)
"""Failures of any program, in the order in which they are checked, after those it reports."""

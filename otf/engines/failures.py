"""Known failures of a DFT program: each has a name, one detector and the remedies to try.

An engine lists its failures in the order in which to check them and passes the output of a run to
:func:`diagnose`.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from otf.engines.labels import LabelFailure
from otf.engines.process import Finished

FROM_SCRATCH = "dropping the restart files"
SAFE_MIXING = "safer mixing"
MORE_ITERATIONS = "more iterations"
ONCE_MORE = "once more"

CONVERGENCE_REMEDIES = (FROM_SCRATCH, SAFE_MIXING, MORE_ITERATIONS)


class Evidence(Protocol):
    """Output of a run, as far as all programs have it."""

    @property
    def finished(self) -> Finished:
        """How the process ended."""
        ...

    @property
    def stdout(self) -> str:
        """Standard output."""
        ...

    @property
    def stderr(self) -> str:
        """Error output."""
        ...

    @property
    def warm(self) -> bool:
        """Whether it started from restart files."""
        ...


E = TypeVar("E", bound=Evidence)
E_contra = TypeVar("E_contra", bound=Evidence, contravariant=True)


@dataclass(frozen=True)
class KnownFailure(Generic[E_contra]):
    """A failure with a name, one detector and its remedies.

    Attributes
    ----------
    name
        Name of the failure.
    detect
        Returns the part of the evidence that shows it, or None.
    advice
        Advice to the user, when no remedy is left.
    remedies
        Tried in this order, each once.
    """

    name: str
    detect: Callable[[E_contra], str | None]
    advice: str
    remedies: tuple[str, ...] = ()


def printed(*patterns: str) -> Callable[[Evidence], str | None]:
    """Detector for lines of the output."""
    compiled = [re.compile(p, re.MULTILINE) for p in patterns]

    def detect(evidence: Evidence) -> str | None:
        for pattern in compiled:
            found = pattern.search(evidence.stdout)
            if found:
                return found.group(0).strip()
        return None

    return detect


def timed_out(evidence: Evidence) -> str | None:
    """Detector for a program that exceeded its time limit."""
    seconds = evidence.finished.wall_s
    return f"no end after {seconds:.0f} s" if evidence.finished.timed_out else None


def exit_code(evidence: Evidence) -> str | None:
    """Detector for any nonzero exit code."""
    code = evidence.finished.returncode
    return f"exit code {code}" if code else None


def signal_number(finished: Finished) -> int:
    """Signal that ended a program, directly or by exit code 128 + n of a launcher; 0 if none."""
    code = finished.returncode
    return -code if code < 0 else code - 128 if code > 128 else 0


def diagnose(
    program: str,
    known: Sequence[KnownFailure[E]],
    evidence: E,
    tried: Collection[str],
    where: str,
) -> LabelFailure | None:
    """The first known failure the evidence shows, with the next remedy; None for success.

    Parameters
    ----------
    program
        Name of the program.
    known
        Failures in the order in which they are checked.
    tried
        Remedies already applied to this label.
    where
        Directory of the output, for the message.
    """
    for failure in known:
        shown = failure.detect(evidence)
        if shown is None:
            continue
        left = [
            remedy
            for remedy in failure.remedies
            if remedy not in tried and (remedy != FROM_SCRATCH or evidence.warm)
        ]
        said = tail(evidence.stdout.strip() or evidence.stderr)
        return LabelFailure(
            f"{program}, {failure.name}: {shown}",
            f"The output is in {where} and ends with\n{said}\n{failure.advice}",
            remedy=left[0] if left else None,
        )
    return None


def tail(text: str, lines: int = 6) -> str:
    """The last non-empty lines of an output, indented."""
    kept = [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]
    return "\n".join(f"    {line}" for line in kept) or "    (nothing)"

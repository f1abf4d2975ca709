"""Known failures of SIESTA: how each is detected, and the remedies to try.

SIESTA exits with code 0 after a broken input file, and aborts (6) for most other reasons, so the
exit code proves nothing.
"""

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

from otf.engines.failures import (
    CONVERGENCE_REMEDIES,
    FROM_SCRATCH,
    ONCE_MORE,
    KnownFailure,
    exit_code,
    printed,
    signal_number,
    timed_out,
)
from otf.engines.process import Finished
from otf_siesta.output import iterations_so_far


@dataclass(frozen=True)
class Evidence:
    """Output of a label.

    Attributes
    ----------
    finished
        How the process ended; exit code 0 for a server that is still running.
    stdout
        Standard output of this label.
    stderr, messages
        The error output and the file MESSAGES.
    answered
        Whether FORCE_STRESS exists and is complete.
    completed
        Whether the server answered, or the process reported that its job was completed.
    warm
        Whether it started from a density matrix.
    """

    finished: Finished
    stdout: str
    stderr: str
    messages: str
    answered: bool
    completed: bool
    warm: bool


def _said(pattern: str, where: str = "messages") -> Callable[[Evidence], str | None]:
    """Detector for lines of MESSAGES or of the error output."""
    compiled = re.compile(pattern, re.MULTILINE)

    def detect(evidence: Evidence) -> str | None:
        found = compiled.search(getattr(evidence, where))
        return " ".join(found.group(found.lastindex or 0).split()) if found else None

    return detect


def _unreadable_matrix(evidence: Evidence) -> str | None:
    if not re.search(r"file = '\S+\.DM'\)", evidence.stderr):
        return None
    found = re.search(r"Fortran runtime error: *(.*)", evidence.stderr)
    return found.group(1) if found else "its .DM file cannot be read"


def _not_converged(evidence: Evidence) -> str | None:
    if "SCF_NOT_CONV" not in evidence.messages:
        return None
    return f"no convergence after {iterations_so_far(evidence.stdout)} iterations"


def _aborted(evidence: Evidence) -> str | None:
    """Reason for an abort: in MESSAGES, or above the line that reports the stop."""
    fatal = re.search(r"^FATAL: *(\S.*)", evidence.messages, re.MULTILINE)
    if fatal is not None:
        return fatal.group(1).strip()
    before = re.search(r"(\S.*)\s*\nStopping Program from Node", evidence.stdout)
    return before.group(1).strip() if before is not None else None


def _killed(evidence: Evidence) -> str | None:
    number = signal_number(evidence.finished)
    if number in (0, signal.SIGABRT) or evidence.finished.returncode == 255:
        return None
    return f"ended by signal {number}"


def _lost(evidence: Evidence) -> str | None:
    found = re.search(r"Error opening \w+ socket.*|Error reading from socket.*", evidence.stderr)
    return found.group(0) if found else None


def _incomplete(evidence: Evidence) -> str | None:
    if not evidence.answered:
        return "no complete FORCE_STRESS was written"
    return None if evidence.completed else "it stopped before its job was completed"


KNOWN: tuple[KnownFailure[Evidence], ...] = (
    KnownFailure(
        "hangs",
        timed_out,
        "give it more time with engine.timeout_s, or look for a bad keyword",
        (ONCE_MORE,),
    ),
    KnownFailure(
        "bad input",
        _said(r"FDF module: *(.*)", "stderr"),
        "correct the template or the engine section",
    ),
    KnownFailure(
        "pseudopotential not found",
        printed(r"Pseudopotential file not found: *\S+"),
        "put it into engine.pseudo_path, named after the species label",
    ),
    KnownFailure(
        "changed supercell",
        _said(r"Mismatch in sparsity pattern and nsc values"),
        "set engine.history_depth to 0: SIESTA cannot extrapolate here",
        (FROM_SCRATCH,),
    ),
    KnownFailure(
        "out of time",
        _said(r"OUT_OF_TIME.*"),
        "remove MaxWalltime from the template; otf has engine.timeout_s",
    ),
    KnownFailure(
        "SCF not converged",
        _not_converged,
        "raise MaxSCFIterations or ElectronicTemperature, or lower SCF.Mixer.Weight, in the "
        "template or in engine.keywords",
        CONVERGENCE_REMEDIES,
    ),
    KnownFailure(
        "unreadable density matrix",
        _unreadable_matrix,
        "check the disk; the file was written by SIESTA itself",
        (FROM_SCRATCH,),
    ),
    KnownFailure(
        "aborted",
        _aborted,
        "correct the template or the engine section",
    ),
    KnownFailure(
        "connection lost",
        _lost,
        "look for a firewall or a full /tmp, or set engine.connection to process",
        (ONCE_MORE,),
    ),
    KnownFailure(
        "killed",
        _killed,
        "look for memory limits and other users' jobs",
        (ONCE_MORE, FROM_SCRATCH),
    ),
    KnownFailure("program error", exit_code, "look at the last lines of its output"),
    KnownFailure("incomplete output", _incomplete, "look at the last lines of its output"),
)

"""Every way an OpenMX run is known to fail: how it shows, and what is tried.

OpenMX ends with exit code 0 in most of these cases, so the code proves nothing.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from otf.labels import LabelFailure
from otf.process import Finished
from otf_openmx.output import Cycle, finished, read_cycle

FROM_SCRATCH = "dropping the restart files"
SAFE_MIXING = "safer mixing"
MORE_ITERATIONS = "more iterations"
ONCE_MORE = "once more"

_CONVERGENCE_REMEDIES = (FROM_SCRATCH, SAFE_MIXING, MORE_ITERATIONS)


@dataclass(frozen=True)
class Evidence:
    """What a run left behind.

    Attributes
    ----------
    has_out
        Whether its ``.out`` file is there and holds energy and forces.
    warm
        Whether it was started from restart files.
    """

    finished: Finished
    stdout: str
    has_out: bool
    warm: bool

    @property
    def cycle(self) -> Cycle | None:
        """The self-consistency as far as it went."""
        return read_cycle(self.stdout)


@dataclass(frozen=True)
class KnownFailure:
    """A failure with a name, one detector and its remedies.

    Attributes
    ----------
    name
        What it is called.
    detect
        What of the evidence shows it, or None.
    advice
        For the user, when no remedy is left.
    remedies
        Tried in this order, each once.
    """

    name: str
    detect: Callable[[Evidence], str | None]
    advice: str
    remedies: tuple[str, ...] = ()


def _printed(*patterns: str) -> Callable[[Evidence], str | None]:
    """A detector for lines of the standard output."""
    compiled = [re.compile(p, re.MULTILINE) for p in patterns]

    def detect(evidence: Evidence) -> str | None:
        for pattern in compiled:
            found = pattern.search(evidence.stdout)
            if found:
                return found.group(0).strip()
        return None

    return detect


def _timed_out(evidence: Evidence) -> str | None:
    seconds = evidence.finished.wall_s
    return f"no end after {seconds:.0f} s" if evidence.finished.timed_out else None


def _killed(evidence: Evidence) -> str | None:
    code = evidence.finished.returncode
    signal = -code if code < 0 else code - 128 if code > 128 else 0
    return f"ended by signal {signal}" if signal and not finished(evidence.stdout) else None


def _exit_code(evidence: Evidence) -> str | None:
    code = evidence.finished.returncode
    return f"exit code {code}" if code else None


def _incomplete(evidence: Evidence) -> str | None:
    if not finished(evidence.stdout):
        return "the output breaks off before 'The calculation was normally finished'"
    return None if evidence.has_out else "no complete .out file was written"


def _not_converged(evidence: Evidence) -> str | None:
    cycle = evidence.cycle
    if cycle is None:
        return "no self-consistency cycle was printed (is level.of.stdout below 1?)"
    if cycle.converged:
        return None
    return (
        f"{cycle.iterations} iterations ended with |dUele| {abs(cycle.energy_change):.1e} Ha and "
        f"NormRD {cycle.residual:.1e}, scf.criterion {cycle.criterion:.1e}"
    )


KNOWN = (
    KnownFailure(
        "OpenMX hangs",
        _timed_out,
        "give it more time with engine.timeout_s, or look for a bad keyword",
        (ONCE_MORE,),
    ),
    KnownFailure(
        "file not found",
        _printed(r"^Could not find .*$", r"input_open: can not open .*$"),
        "correct DATA.PATH (engine.data_path), or the basis and pseudopotential names",
    ),
    KnownFailure(
        "bad input",
        _printed(
            r"^ERROR key=.*$",
            r"^Format error .*$",
            r"^Found an undefined species name.*$",
            r"^Invalid values for the initial densities.*$",
            r"^The recursion method is not supported.*$",
            r"^errors in the inputfile.*$",
        ),
        "correct the template or the engine section",
    ),
    KnownFailure(
        "killed",
        _killed,
        "look for memory limits and other users' jobs",
        (ONCE_MORE, FROM_SCRATCH),
    ),
    KnownFailure("program error", _exit_code, "look at the last lines of its output"),
    KnownFailure("incomplete output", _incomplete, "look at the last lines of its output"),
    KnownFailure(
        "SCF not converged",
        _not_converged,
        "raise scf.maxIter or scf.ElectronicTemperature, or lower scf.Max.Mixing.Weight in the "
        "template",
        _CONVERGENCE_REMEDIES,
    ),
)


def diagnose(evidence: Evidence, tried: Collection[str], where: str) -> LabelFailure | None:
    """The first known failure the evidence shows, with the next remedy; None for success.

    Parameters
    ----------
    tried
        Remedies that were applied to this label already.
    where
        Directory of the output, for the message.
    """
    for known in KNOWN:
        shown = known.detect(evidence)
        if shown is None:
            continue
        left = [
            r for r in known.remedies if r not in tried and (r != FROM_SCRATCH or evidence.warm)
        ]
        return LabelFailure(
            f"OpenMX, {known.name}: {shown}",
            f"Its output is in {where} and ends\n{_tail(evidence.stdout)}\n{known.advice}",
            remedy=left[0] if left else None,
        )
    return None


def _tail(text: str, lines: int = 6) -> str:
    kept = [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]
    return "\n".join(f"    {line}" for line in kept) or "    (nothing)"

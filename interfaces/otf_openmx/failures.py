"""Known failures of OpenMX: how each is detected, and the remedies to try.

OpenMX exits with code 0 in most of these cases, so the exit code proves nothing.
"""

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
from otf_openmx.output import Cycle, finished, read_cycle


@dataclass(frozen=True)
class Evidence:
    """Output of a run.

    Attributes
    ----------
    has_out
        Whether the ``.out`` file exists and holds energy and forces.
    warm
        Whether it was started from restart files.
    """

    finished: Finished
    stdout: str
    stderr: str
    has_out: bool
    warm: bool

    @property
    def cycle(self) -> Cycle | None:
        """The self-consistency cycle, as far as it was printed."""
        return read_cycle(self.stdout)


def _killed(evidence: Evidence) -> str | None:
    signal = signal_number(evidence.finished)
    return f"ended by signal {signal}" if signal and not finished(evidence.stdout) else None


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


KNOWN: tuple[KnownFailure[Evidence], ...] = (
    KnownFailure(
        "hangs",
        timed_out,
        "give it more time with engine.timeout_s, or look for a bad keyword",
        (ONCE_MORE,),
    ),
    KnownFailure(
        "file not found",
        printed(r"^Could not find .*$", r"input_open: can not open .*$"),
        "correct DATA.PATH (engine.data_path), or the basis and pseudopotential names",
    ),
    KnownFailure(
        "bad input",
        printed(
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
    KnownFailure("program error", exit_code, "look at the last lines of its output"),
    KnownFailure("incomplete output", _incomplete, "look at the last lines of its output"),
    KnownFailure(
        "SCF not converged",
        _not_converged,
        "raise scf.maxIter or scf.ElectronicTemperature, or lower scf.Max.Mixing.Weight in the "
        "template",
        CONVERGENCE_REMEDIES,
    ),
)

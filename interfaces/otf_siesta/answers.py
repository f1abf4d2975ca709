"""Reading of a label's directory: its results, or the reason why it failed."""

from collections.abc import Collection
from pathlib import Path

from ase import Atoms

from otf.engines.failures import FROM_SCRATCH, diagnose
from otf.engines.labels import LabelFailure
from otf.engines.process import Finished
from otf.engines.sanity import impossible, misplaced
from otf_siesta.changes import NAME
from otf_siesta.failures import KNOWN, Evidence
from otf_siesta.output import (
    Answer,
    Constants,
    constants_of,
    read_first_change,
    read_force_stress,
    read_iterations,
    read_positions,
    read_version,
)

OUTPUT, ERRORS = f"{NAME}.out", f"{NAME}.err"
FORCE_ERROR_PER_CHANGE = 10.0
"""Largest error of a force component, eV/Angstrom, per density-matrix change in one iteration.

The largest observed ratio was 6.6, for H2O, CH4 and Si8 at 300 K (PBE, DZP and SZP).
"""

_ECHO_A = 1e-7  # positions are echoed with nine decimals
_HEADER_BYTES = 1 << 16  # of an output that grows with every label


def read_label(
    directory: Path,
    atoms: Atoms,
    done: Finished,
    remedies: Collection[str],
    *,
    warm: bool,
    completed: bool,
    seen: int = 0,
) -> tuple[Answer, int | None] | LabelFailure:
    """Results of a self-consistent label, and its number of SCF iterations.

    Parameters
    ----------
    done
        How the process ended, or how the server answered.
    remedies
        Remedies that were applied.
    warm
        Whether it started from a density matrix.
    completed
        Whether it ran to completion.
    seen
        Bytes of the output that belong to earlier labels.
    """
    stdout = text(directory / OUTPUT, seen)
    answer = _forces(directory)
    evidence = Evidence(
        finished=done,
        stdout=stdout,
        stderr=text(directory / ERRORS),
        messages=text(directory / "MESSAGES"),
        answered=answer is not None,
        completed=completed,
        warm=warm,
    )
    failure = diagnose("SIESTA", KNOWN, evidence, remedies, str(directory))
    if failure is not None:
        return failure
    assert answer is not None  # an unanswered label is a known failure
    problem = _problem(answer, atoms, directory)
    if problem is not None:
        return LabelFailure(
            f"SIESTA: {problem}",
            f"look at the structure and at {directory}",
            remedy=FROM_SCRATCH if warm else None,
        )
    return answer, read_iterations(stdout)


def read_one_shot(directory: Path, atoms: Atoms) -> tuple[Answer, float] | None:
    """Results after one diagonalisation, and their force error in eV/Angstrom; None if none."""
    change = read_first_change(text(directory / OUTPUT))
    answer = _forces(directory)
    if answer is None or change is None or not completed(directory):
        return None
    if _problem(answer, atoms, directory) is not None:
        return None
    return answer, FORCE_ERROR_PER_CHANGE * change


def _problem(answer: Answer, atoms: Atoms, directory: Path) -> str | None:
    echoed = read_positions(text(directory / f"{NAME}.XV"), units_of(directory))
    return impossible(answer.energy, answer.forces, len(atoms)) or misplaced(atoms, echoed, _ECHO_A)


def _forces(directory: Path) -> Answer | None:
    return read_force_stress(text(directory / "FORCE_STRESS"), units_of(directory))


def completed(directory: Path) -> bool:
    """Whether a process reported that it ran to completion."""
    said = text(directory / "MESSAGES")
    return (directory / "0_NORMAL_EXIT").exists() and said.endswith("INFO: Job completed\n")


def version_of(directory: Path) -> str:
    """Version of SIESTA that ran in this directory."""
    return read_version(text(directory / OUTPUT, most=_HEADER_BYTES))


def units_of(directory: Path) -> Constants:
    """Units of the SIESTA that ran in this directory."""
    return constants_of(version_of(directory))


def text(path: Path, seen: int = 0, most: int = -1) -> str:
    """Text of a file from byte ``seen``, at most ``most`` bytes; empty if it does not exist."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(seen)
        return file.read(most).decode("utf-8", errors="replace")

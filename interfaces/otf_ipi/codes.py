"""What differs between programs that speak the i-PI protocol, as a table.

Sources: the programs' manuals and outputs. Quantum ESPRESSO 6.7, CP2K 2023.1 and NWChem 7.0.2 were
run; FHI-aims and DFTB+ are described from their documentation. ABINIT (9.6.2) does not fit: it
refuses a first structure that is not in its input file, so it cannot be started again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from otf.engines.failures import KnownFailure, printed
from otf.errors import EngineError
from otf_ipi.cp2k import Cp2kInput
from otf_ipi.espresso import EspressoInput
from otf_ipi.failures import Evidence, not_converged, stopped
from otf_ipi.program_input import OtherInput, ProgramInput

OTHER = "other"


@dataclass(frozen=True)
class Code:
    """A program.

    Attributes
    ----------
    name
        Name for ``engine.program``.
    executable
        Regular expression of the names of its executable.
    arguments
        Arguments that make it read its input and connect to a unix or an inet socket, if the
        command has no placeholders.
    input
        How its input file is read and changed.
    input_sign
        Regular expression of a line that only its input files have; None if there is none.
    not_converged
        Regular expressions in the output of a label whose SCF did not converge.
    converged
        Regular expression in the output of every converged label, with the number of iterations as
        its last group; None if there is none.
    stopped
        Regular expression of the reason for a stop in the output.
    version
        Regular expression of the version in the output.
    grid
        Whether its densities are on a grid in real space or in plane waves, which are those of the
        cell it was started with.
    """

    name: str
    executable: str
    arguments: Mapping[str, str] = field(default_factory=lambda: {"unix": "", "inet": ""})
    input: type[ProgramInput] = OtherInput
    input_sign: str | None = None
    not_converged: tuple[str, ...] = ()
    converged: str | None = None
    stopped: str | None = None
    version: str | None = None
    grid: bool = False

    def failures(self) -> list[KnownFailure[Evidence]]:
        """Failures that this program reports."""
        found = []
        if self.not_converged:
            found.append(not_converged(printed(*self.not_converged), self.input.remedies))
        if self.stopped is not None:
            found.append(stopped(self.stopped))
        return found

    def iterations(self, output: str) -> int | None:
        """Number of SCF iterations of a label; None if the output does not give it."""
        found = re.findall(self.converged, output) if self.converged is not None else []
        return int(found[-1]) if found and str(found[-1]).isdigit() else None


CODES = (
    Code(
        "quantum-espresso",
        r"pw(\.\w+)*(\.x)?",
        {"unix": "--ipi {address}:UNIX -in {input}", "inet": "--ipi {address} -in {input}"},
        EspressoInput,
        r"^\s*&SYSTEM\b",
        not_converged=(r"convergence NOT achieved.*",),
        converged=r"convergence has been achieved in +(\d+) iterations",
        stopped=r"Error in routine[^\n]*\n\s*(\S[^\n]*)",
        version=r"Program PWSCF (v\.\S+)",
        grid=True,
    ),
    Code(
        "cp2k",
        r"cp2k(\.\w+)?",
        {"unix": "-i {input}", "inet": "-i {input}"},
        Cp2kInput,
        r"^\s*&FORCE_EVAL\b",
        not_converged=(r"SCF run NOT converged.*",),
        converged=r"SCF run converged in +(\d+) steps",
        stopped=r"\[ABORT\][^\n]*\n[ *]*(?:\\___/|)\s*([^*\n]*\S)",
        version=r"CP2K\| version string: +CP2K version +(\S+)",
        grid=True,
    ),
    Code(
        "fhi-aims",
        r"aims\S*",
        not_converged=(r"Self-consistency cycle not converged",),
        converged=r"Self-consistency cycle converged",
        version=r"FHI-aims version +: *(\S+)",
    ),
    Code(
        "dftb+",
        r"dftb\+?",
        not_converged=(r"SCC is NOT converged",),
        version=r"DFTB\+ (?:release|version) +(\S+)",
    ),
    Code(
        "nwchem",
        r"nwchem",
        {"unix": "{input}", "inet": "{input}"},
        not_converged=(r"Calculation failed to converge",),
        version=r"\(NWChem\) +(\S+)",
    ),
)
"""The programs that otf describes."""

_OTHER = Code(OTHER, r"\Z(?!)")


def code_of(program: str | None, words: Sequence[str]) -> Code:
    """The description of a program.

    Parameters
    ----------
    program
        ``engine.program``, or None to go by the executable.
    words
        The command, in which the executable may follow a launcher and its options.

    Raises
    ------
    EngineError
        If there is no such program.

    Examples
    --------
    >>> code_of(None, ["mpirun", "-np", "4", "/opt/qe/bin/pw.x"]).name
    'quantum-espresso'
    >>> code_of(None, ["cp2k.psmp"]).name, code_of(None, ["mine"]).name
    ('cp2k', 'other')
    """
    if program is None:
        names = [word.rpartition("/")[2] for word in words]
        found = (c for name in names for c in CODES if re.fullmatch(c.executable, name))
        return next(found, _OTHER)
    for code in (*CODES, _OTHER):
        if code.name == program:
            return code
    known = ", ".join(code.name for code in (*CODES, _OTHER))
    raise EngineError(f"engine.program: '{program}' is not described; there are {known}")


def code_of_input(text: str) -> Code:
    """The program whose input file this is, by its contents."""
    flags = re.MULTILINE | re.IGNORECASE
    found = (c for c in CODES if c.input_sign is not None and re.search(c.input_sign, text, flags))
    return next(found, _OTHER)

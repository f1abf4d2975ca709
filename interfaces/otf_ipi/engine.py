"""The i-PI engine: labels by a program that is sent structures over a socket."""

import logging
import re
import shutil
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase import Atoms
from pydantic import BaseModel

from otf.arrays import Floats
from otf.engines.external_field import warn_of_field
from otf.engines.failures import diagnose
from otf.engines.job import InputJob
from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.engines.launch import launch
from otf.engines.placement import cell_for, placed
from otf.engines.process import Patience, split_command
from otf.engines.protocol import Capabilities, DensityGuess, Engine
from otf.engines.sanity import too_close
from otf.errors import EngineError
from otf_ipi.codes import Code, code_of, code_of_input
from otf_ipi.failures import GENERAL, HANGS, Evidence, of_the_user
from otf_ipi.options import Options
from otf_ipi.program import Answer, Program
from otf_ipi.program_input import OtherInput, ProgramInput

_LOG = logging.getLogger("otf.ipi")


class IpiEngine(Engine):
    """A program that speaks the i-PI protocol, started, restarted and ended by otf.

    It starts each label from its own last density, so that a label repeated in another process
    agrees within the tolerance of its SCF, not to the last bit.
    """

    kind: ClassVar[str] = "ipi"
    Options: ClassVar[type[BaseModel]] = Options
    may_change: ClassVar[tuple[str, ...]] = (
        "command", "ranks", "threads", "launcher", "program", "files_path", "failures",
        "converged", "connection", "host", "timeout_s",
    )  # fmt: skip
    without_effect: ClassVar[tuple[str, ...]] = (
        "command", "ranks", "threads", "launcher", "files_path", "failures", "converged",
        "connection", "host", "timeout_s",
    )  # fmt: skip

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None:
        assert isinstance(options, Options)
        if charge or spin:
            raise EngineError(
                "engine 'ipi': charge and spin are in the template (tot_charge, "
                "tot_magnetization; CHARGE, MULTIPLICITY): leave system.charge and system.spin at 0"
            )
        self._options = options
        self._code = code_of(options.program, split_command(options.command))
        self._patience = Patience(options.timeout_s)
        self._program: Program | None = None
        self._cell: Floats = np.zeros((3, 3))  # of a molecule

    @property
    def capabilities(self) -> Capabilities:
        """Every program is sent a cell; a molecule is put into a box."""
        return Capabilities(
            periodic=True,
            stress=True,
            atomic_energies=False,
            level=self._options.level,
            grid=self._code.grid,
        )

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Read the input file; the program is started for the first label.

        Raises
        ------
        EngineError
            If the program is missing, or its input file does not fit the structure.
        """
        self.close()
        options = self._options
        started = launch(options)
        given = _input(options, self._code)
        species = given.species(list(atoms.symbols))
        template = None
        if options.takes_cell and not atoms.pbc.any() and atoms.cell.rank < 3:
            own = given.job().atoms.cell
            template = own.array if own.rank == 3 else None
        self._cell = cell_for(
            atoms, vacuum_A=options.vacuum_A, template=template, source=given.source
        )
        if given.field:
            warn_of_field(given.source, given.field)
        for line in given.changes:
            _LOG.info("input: %s", line)
        scratch.mkdir(parents=True, exist_ok=True)
        self._program = Program(
            options, started, self._code, given=given, species=species, scratch=scratch
        )

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """See :class:`otf.engines.protocol.LabelSource`."""
        program = self._program
        if program is None:
            raise EngineError("the ipi engine was not opened")
        refused = too_close(atoms, self._code.name)
        if refused is not None:
            return refused
        structure = placed(atoms, self._cell)
        answer = program.compute(structure, remedies, self._patience.limit_s)
        found = self._failure(answer, program.converged, remedies) or self._labels(
            answer, structure, program.version
        )
        if isinstance(found, LabelFailure):
            program.stop()  # its state is undefined after a failure
        else:
            self._patience.seconds.append(found.wall_s)
        return found

    def pause(self) -> None:
        """End the program; the next label starts another process."""
        if self._program is not None:
            self._program.stop()

    def close(self) -> None:
        """End the program; may be called twice."""
        self.pause()
        self._program = None

    @classmethod
    def doctor(cls) -> EngineReport:
        """Which of the described programs are installed."""
        found = [name for name in ("pw.x", "cp2k", "cp2k.psmp", "nwchem") if shutil.which(name)]
        notes = [f"on the PATH: {', '.join(found)}" if found else "name it in engine.command"]
        return EngineReport(True, f"i-PI protocol of ase {version('ase')}", notes)

    @classmethod
    def job(cls, path: Path) -> InputJob:
        """The job of an input file, whose program is found by the contents."""
        text = _text(path)
        return code_of_input(text).input(text, path.name, path.parent).job()

    def _failure(
        self, answer: Answer, converged: str | None, remedies: Collection[str]
    ) -> LabelFailure | None:
        evidence = Evidence(
            finished=answer.finished,
            stdout=answer.output,
            stderr=answer.errors,
            answered=answer.sent is not None,
            converged=None if converged is None else bool(re.search(converged, answer.output)),
            warm=answer.warm,
        )
        user = of_the_user(self._options.failures)
        known = [HANGS, *user, *self._code.failures(), *GENERAL]
        return diagnose(self._code.name, known, evidence, remedies, str(answer.directory))

    def _labels(
        self, answer: Answer, structure: Atoms, program_version: str
    ) -> Labels | LabelFailure:
        sent = answer.sent
        assert sent is not None  # nothing sent is a known failure
        virial = 0.5 * (sent.virial + sent.virial.T)
        labels = Labels(
            energy=sent.energy,
            forces=sent.forces,
            # Programs that compute no stress send zeros.
            stress=-virial / structure.get_volume() if virial.any() else None,
            scf_iterations=self._code.iterations(answer.output),
            wall_s=answer.finished.wall_s,
            provenance=" ".join((self._code.name, program_version, "by the i-PI protocol")),
        )
        problem = labels.problem(len(structure))
        if problem is None:
            return labels
        return LabelFailure(f"{self._code.name}: {problem}", f"look at {answer.directory}")


def _input(options: Options, code: Code) -> ProgramInput:
    """The input file of the options.

    Raises
    ------
    EngineError
        If it cannot be read.
    """
    path = options.template
    folder = options.files_path or path.parent
    if code.input is not OtherInput:
        if options.structure_file is not None:
            raise EngineError(
                f"engine.structure_file: otf writes the structure into the input of {code.name}"
            )
        return code.input(_text(path), path.name, folder)
    return OtherInput(
        _text(path),
        path.name,
        folder,
        structure_file=options.structure_file,
        structure_format=options.structure_format,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error})") from error

"""Labels by SIESTA: from a server that is asked over a socket, or from one process a label."""

import logging
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
from ase import Atoms
from pydantic import BaseModel

from otf.arrays import Floats
from otf.engines.failures import FROM_SCRATCH
from otf.engines.input_deck import Deck
from otf.engines.label_directories import LabelDirectories
from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.engines.launch import Launch, launch
from otf.engines.placement import name_species, periodic_cell, placed
from otf.engines.process import Finished, Patience, run_program
from otf.engines.protocol import Capabilities, DensityGuess, ForceCheck, WarmStart
from otf.engines.sanity import too_close
from otf.errors import EngineError
from otf.orbitals.block_matrices import BlockMatrix, Matrices, RadialFunctions
from otf_siesta import answers
from otf_siesta.answers import ERRORS, OUTPUT, read_label, read_one_shot
from otf_siesta.changes import (
    CHANGE_INPUT,
    NAME,
    ONE_CYCLE,
    apply_remedies,
    fingerprint,
    set_output,
)
from otf_siesta.fdf import Fdf, read, whole_text
from otf_siesta.geometry import (
    read_structure,
    species_elements,
    species_of_atoms,
    write_structure,
)
from otf_siesta.guesses import Occupation, begin_from, occupation_of, read_matrices, read_orbitals
from otf_siesta.options import Options, make_deck
from otf_siesta.output import Answer, read_version
from otf_siesta.server import Door, Server

_LOG = logging.getLogger("otf.siesta")

_INPUT = f"{NAME}.fdf"
_MATRIX = f"{NAME}.DM"
_ORBITALS = f"{NAME}.ORB_INDX"
_LAUNCH_S = 20.0
_PSEUDOPOTENTIALS = ("psf", "vps", "psml")
_BASIS_FILES = ("ion", "ion.xml", "ion.nc")  # read with User.Basis


class SiestaEngine:
    """SIESTA, kept running between labels or started anew for each, warm-started from the last."""

    kind: ClassVar[str] = "siesta"
    Options: ClassVar[type[BaseModel]] = Options
    may_change: ClassVar[tuple[str, ...]] = (
        "command", "ranks", "threads", "launcher",
        "connection", "host", "pseudo_path", "timeout_s", "keywords", "known_keywords",
        "warm_start", "mode", "one_shot_error_meV_A",
    )  # fmt: skip

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None:
        assert isinstance(options, Options)
        self._options = options
        self._charge = charge
        self._spin = spin
        self._directories: LabelDirectories | None = None
        self._scratch = Path()
        self._launch = Launch([], {})
        self._deck: Deck = Fdf([], "")
        self._cell: Floats = np.zeros((3, 3))
        self._species: list[str] = []
        self._basis = ""  # what density matrices depend on besides the positions
        self._patience = Patience(options.timeout_s)
        self._server: Server | None = None
        self._served: tuple[str, ...] = ()  # remedies the server was started with
        self._last: int | None = None  # label whose density matrices the server holds
        self._ended_in: Path | None = None  # directory of the latest label
        self._occupation: Occupation | None = None
        self._orbitals: dict[int, RadialFunctions] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Everything is periodic to SIESTA; a molecule is put into a box."""
        return Capabilities(periodic=True, stress=True, atomic_energies=False, level="DFT")

    @property
    def keeps_matrices(self) -> bool:
        """See :class:`otf.engines.protocol.WithMatrices`."""
        return self.warm_start != "previous"

    @property
    def warm_start(self) -> WarmStart:
        """See :class:`otf.engines.protocol.WithMatrices`."""
        chosen = self._options.warm_start
        return "previous" if isinstance(chosen, bool) else chosen

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Make the input file for these atoms.

        Raises
        ------
        EngineError
            If the program or a pseudopotential is not there, or the template or the options do
            not fit.
        """
        self.close()
        self._launch = launch(self._options)
        self._cell = periodic_cell(atoms, self._options.vacuum_A)
        symbols = list(atoms.symbols)
        original = make_deck(
            self._options, sorted(set(symbols)), charge=self._charge, spin=self._spin
        )
        self._deck = original.copy()
        if self.keeps_matrices:
            self._occupation = occupation_of(self._deck, atoms, self._spin)
        elements = species_elements(self._deck)
        self._species = name_species(
            symbols, species_of_atoms(self._deck), elements, self._deck.source
        )
        depth = self._options.history_depth
        set_output(self._deck, history_depth=depth, hamiltonian=self.keeps_matrices)
        for label in elements:
            self._files_of(label)
        if self._options.template is not None:
            for line in self._deck.changes_from(original):
                _LOG.info("input: %s", line)
        self._basis = fingerprint(self._deck, self._species)
        self._directories = LabelDirectories(scratch)
        self._scratch = scratch

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """See :class:`otf.engines.protocol.WithMatrices`."""
        density_matrix = None if guess is None else guess.density_matrix
        if self._directories is None:
            raise EngineError("the siesta engine was not opened")
        refused = too_close(atoms, "SIESTA")
        if refused is not None:
            return refused
        before = self._directories.left_by(index - 1, self._basis)
        if FROM_SCRATCH in remedies or not self._options.warm_start:
            before = None
        boxed = placed(atoms, self._cell)
        ask = self._by_process if self._options.connection == "process" else self._by_server
        self._ended_in = None
        answer: Labels | LabelFailure | None = None
        if density_matrix is not None and before is not None and self._options.mode == "one_shot":
            answer = self._one_shot(boxed, index, before, density_matrix) if not remedies else None
        if answer is None:
            answer = ask(boxed, index, tuple(remedies), before, density_matrix)
        if isinstance(answer, Labels):
            self._patience.seconds.append(answer.wall_s)
            if (self._directories.path(index) / _MATRIX).exists():
                self._directories.succeeded(index, self._basis)
        else:
            self._stop_server()  # its state is not known any more
        return answer

    def check_forces(self, atoms: Atoms, guess: DensityGuess, *, index: int) -> ForceCheck | None:
        """See :class:`otf.engines.protocol.ChecksForces`."""
        if self._directories is None:
            raise EngineError("the siesta engine was not opened")
        before = self._directories.left_by(index - 1, self._basis)
        if before is None or too_close(atoms, "SIESTA") is not None:
            return None
        boxed = placed(atoms, self._cell)
        answer, within, _ = self._shot(boxed, index, before, guess.density_matrix)
        return None if answer is None else ForceCheck(answer.forces, within)

    def matrices(self) -> Matrices | None:
        """See :class:`otf.engines.protocol.WithMatrices`."""
        if self._ended_in is None or not self.keeps_matrices:
            return None
        try:
            found = read_matrices(self._ended_in, NAME, self._occupation)
        except Exception as error:  # sisl raises what it likes, and a label is worth more
            _LOG.warning("%s: its matrices cannot be read: %s", self._ended_in, error)
            return None
        if found is None:
            return None
        if self._orbitals is None:
            self._orbitals = read_orbitals(self._ended_in, species_elements(self._deck))
        return replace(found, basis=self._basis, orbitals=self._orbitals)

    def close(self) -> None:
        """End the server; may be called twice."""
        self._stop_server()
        self._directories = None

    @classmethod
    def doctor(cls) -> EngineReport:
        """Whether there is a program called siesta."""
        found = shutil.which("siesta")
        if found is None:
            return EngineReport(False, "", ["no 'siesta' on the PATH: name it in engine.command"])
        with TemporaryDirectory(prefix="otf-siesta-") as folder:
            # With nothing to read it prints its version and stops.
            run_program([found], Path(folder), stdout="o", stderr="e", timeout_s=_LAUNCH_S)
            said = answers.text(Path(folder) / "o") + answers.text(Path(folder) / "e")
        version = read_version(said)
        if not version:
            return EngineReport(False, "", [found, f"does not start: {said.strip()[-200:]}"])
        return EngineReport(
            True, version, [found, "a server over a socket; or one process a label"]
        )

    @classmethod
    def structure(cls, path: Path) -> Atoms:
        """The structure of an input file."""
        return read_structure(read(path))

    @classmethod
    def whole_text(cls, path: Path) -> str:
        """An input file with all it includes."""
        return whole_text(path)

    def _files_of(self, label: str) -> list[Path]:
        """Pseudopotential of a species, and its basis where the input says so."""
        folder = self._options.pseudo_path
        assert folder is not None
        here = [folder / f"{label}.{end}" for end in _PSEUDOPOTENTIALS]
        found = [path for path in here if path.is_file()]
        if self._deck.flag("User.Basis") or self._deck.flag("User.Basis.NetCDF"):
            found += [path for end in _BASIS_FILES if (path := folder / f"{label}.{end}").is_file()]
        if not found:
            raise EngineError(
                f"engine.pseudo_path: {folder} has no {here[0].name} (nor .vps, .psml); "
                "pseudopotentials are named by the species label"
            )
        return found

    def _prepare(
        self, directory: Path, atoms: Atoms, how: dict[str, object], remedies: Collection[str]
    ) -> None:
        """Input file and pseudopotentials of a run."""
        deck = self._deck.copy()
        write_structure(deck, atoms, self._species)
        for name, value in how.items():
            deck.put(name, value)
        apply_remedies(deck, remedies)
        (directory / _INPUT).write_text(deck.text(), encoding="utf-8")
        for label in species_elements(deck):
            for path in self._files_of(label):
                (directory / path.name).symlink_to(path.resolve())

    def _by_process(
        self,
        atoms: Atoms,
        index: int,
        remedies: tuple[str, ...],
        before: Path | None,
        guess: BlockMatrix | None,
    ) -> Labels | LabelFailure:
        """A label by a process of its own."""
        assert self._directories is not None
        directory = self._directories.fresh(index)
        self._prepare(directory, atoms, {"MD.TypeOfRun": "CG", "MD.Steps": 0}, remedies)
        if before is not None:
            shutil.copyfile(before / _MATRIX, directory / _MATRIX)
        begin_from(guess, before, directory, NAME)
        done = self._run(directory)
        found = read_label(
            directory,
            atoms,
            done,
            remedies,
            warm=before is not None,
            completed=answers.completed(directory),
        )
        if isinstance(found, LabelFailure):
            return found
        self._ended_in = directory
        return self._labels(directory, found[0], done, found[1])

    def _one_shot(
        self, atoms: Atoms, index: int, before: Path, guess: BlockMatrix
    ) -> Labels | None:
        """A label by one diagonalisation; None where that is not good enough.

        Its matrices are not told: what was learned would be learned once more.
        """
        answer, error, done = self._shot(atoms, index, before, guess)
        if answer is None or not 1e3 * error < self._options.one_shot_error_meV_A:
            return None
        how = f" (one shot, forces within {1e3 * error:.1f} meV/A)"
        assert self._directories is not None
        return self._labels(self._directories.path(index), answer, done, 1, how)

    def _shot(
        self, atoms: Atoms, index: int, before: Path, guess: BlockMatrix
    ) -> tuple[Answer | None, float, Finished]:
        """One diagonalisation in the directory of a label: the answer, if any, and its error."""
        assert self._directories is not None
        directory = self._directories.fresh(index)
        once = {"MD.TypeOfRun": "CG", "MD.Steps": 0, **ONE_CYCLE}
        self._prepare(directory, atoms, once, ())
        begin_from(guess, before, directory, NAME)
        done = self._run(directory)
        answer, error = read_one_shot(directory, atoms) or (None, np.inf)
        return answer, error, done

    def _run(self, directory: Path) -> Finished:
        """A process of SIESTA, to its end."""
        return run_program(
            self._launch.words,
            directory,
            stdin=_INPUT,
            stdout=OUTPUT,
            stderr=ERRORS,
            timeout_s=self._patience.limit_s,
            environment=self._launch.environment,
        )

    def _by_server(
        self,
        atoms: Atoms,
        index: int,
        remedies: tuple[str, ...],
        before: Path | None,
        guess: BlockMatrix | None,
    ) -> Labels | LabelFailure:
        """A label by the server, which is started first where there is none that fits."""
        assert self._directories is not None
        follows = before is not None and self._last == index - 1
        changes = tuple(r for r in remedies if r in CHANGE_INPUT)
        fits = self._served == changes and (follows or not self._options.history_depth)
        if self._server is None or not self._server.runs or not fits:
            self._start_server(atoms, changes)
        assert self._server is not None
        directory = self._server.directory
        if before is None:
            (directory / _MATRIX).unlink(missing_ok=True)
        elif self._last != index - 1:
            shutil.copyfile(before / _MATRIX, directory / _MATRIX)
        begin_from(guess, before, directory, NAME)
        self._last = None
        for stale in ("FORCE_STRESS", "MESSAGES"):
            (directory / stale).unlink(missing_ok=True)
        seen = (directory / OUTPUT).stat().st_size
        done = self._server.compute(atoms, self._patience.limit_s)
        found = read_label(
            directory,
            atoms,
            done,
            remedies,
            warm=before is not None,
            completed=self._server.runs,
            seen=seen,
        )
        if isinstance(found, LabelFailure):
            return found
        kept = self._directories.fresh(index)
        for name in (_MATRIX, _ORBITALS, _INPUT):
            if (directory / name).exists():
                shutil.copyfile(directory / name, kept / name)
        self._last = index
        self._ended_in = directory
        return self._labels(directory, found[0], done, found[1])

    def _start_server(self, atoms: Atoms, remedies: tuple[str, ...]) -> None:
        """Start a server in a directory of its own; the one before stays to be looked at."""
        self._stop_server()
        old = sorted(self._scratch.glob("server-*"))
        number = 1 + int(old[-1].name.removeprefix("server-")) if old else 0
        for path in old[:-1]:
            shutil.rmtree(path, ignore_errors=True)
        directory = self._scratch / f"server-{number:06d}"
        directory.mkdir()
        kind = self._options.connection
        assert kind != "process"
        door = Door(kind, self._options.host)
        self._prepare(directory, atoms, door.keywords(), remedies)
        self._server = Server(
            self._launch, directory, door, stdin=_INPUT, stdout=OUTPUT, stderr=ERRORS
        )
        self._served = remedies

    def pause(self) -> None:
        """End the server, whose ranks wait on their cores; the next label starts another."""
        self._stop_server()

    def _stop_server(self) -> None:
        if self._server is not None:
            self._server.stop()
        self._server = None
        self._last = None

    def _level(self) -> str:
        deck = self._deck
        return f"{deck.value('XC.Authors') or 'CA'} {deck.value('MeshCutoff') or 'default mesh'}"

    def _labels(
        self, directory: Path, answer: Answer, done: Finished, cycles: int | None, how: str = ""
    ) -> Labels:
        return Labels(
            energy=answer.energy,
            forces=answer.forces,
            stress=answer.stress,
            scf_iterations=cycles,
            wall_s=done.wall_s,
            provenance=f"SIESTA {answers.version_of(directory)} {self._level()}{how}",
        )

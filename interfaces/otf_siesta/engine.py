"""The SIESTA engine: labels by one process each or a server, warm-started from files."""

import logging
import shutil
from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
from ase import Atoms
from pydantic import BaseModel

from otf.arrays import Floats
from otf.engines.external_field import is_field, warn_of_field
from otf.engines.failures import FROM_SCRATCH
from otf.engines.input_deck import Deck
from otf.engines.job import InputJob
from otf.engines.label_directories import LabelDirectories
from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.engines.launch import launch
from otf.engines.placement import cell_for, name_species, placed
from otf.engines.process import Patience, run_program
from otf.engines.protocol import (
    Capabilities,
    DensityGuess,
    Engine,
    FinishedCalculation,
    ForceCheck,
    WarmStart,
)
from otf.engines.sanity import too_close
from otf.errors import EngineError
from otf.orbitals.block_matrices import Matrices, RadialFunctions
from otf_siesta import answers
from otf_siesta.by_process import ByProcess, diagonalise_once, one_cycle
from otf_siesta.by_server import ByServer
from otf_siesta.changes import NAME, NOT_OF_THE_METHOD, fingerprint, set_output
from otf_siesta.fdf import NEW_IN_5, read, whole_text
from otf_siesta.finished import read_finished
from otf_siesta.geometry import cell_of, species_elements, species_of_sites
from otf_siesta.ghosts import Ghosts, has_ghosts
from otf_siesta.guesses import (
    Occupation,
    occupation_of,
    read_matrices,
    read_orbitals,
    require_alike,
)
from otf_siesta.input_job import read_job
from otf_siesta.job import DENSITY_MATRIX, Job, Question
from otf_siesta.options import Options, gamma_only, make_deck
from otf_siesta.output import LEGACY, constants_of, read_version

_LOG = logging.getLogger("otf.siesta")
_FIELD = "ExternalElectricField"
_LAUNCH_S = 20.0


class SiestaEngine(Engine):
    """SIESTA as a server or as one process per label, warm-started from the previous label."""

    kind: ClassVar[str] = "siesta"
    Options: ClassVar[type[BaseModel]] = Options
    with_matrices: ClassVar[dict[str, str | bool]] = {"warm_start": "learned"}
    may_change: ClassVar[tuple[str, ...]] = (
        "command", "ranks", "threads", "launcher",
        "connection", "host", "pseudo_path", "timeout_s", "keywords", "known_keywords",
        "warm_start", "mode", "one_shot_error_meV_A",
    )  # fmt: skip
    without_effect: ClassVar[tuple[str, ...]] = (
        "command", "ranks", "threads", "launcher", "connection", "host", "pseudo_path", "timeout_s",
        "known_keywords", "warm_start", "history_depth", "vacuum_A",
    )  # fmt: skip

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None:
        assert isinstance(options, Options)
        self._options = options
        self._charge = charge
        self._spin = spin
        self._patience = Patience(options.timeout_s)
        self._job: Job | None = None
        self._strategy: ByProcess | ByServer | None = None
        self._cell: Floats = np.zeros((3, 3))
        self._basis = ""  # what density matrices depend on besides the positions
        self._ended_in: Path | None = None  # directory of the latest label
        self._occupation: Occupation | None = None
        self._orbitals: dict[int, RadialFunctions] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """SIESTA is always periodic; a molecule is put into a box."""
        return Capabilities(
            periodic=True,
            stress=not self._has_ghosts,  # they do not move with the cell
            atomic_energies=False,
            level="DFT",
            matrices=self.warm_start != "previous",
            force_check=self.warm_start in ("auto", "learned"),
            grid=True,
        )

    @property
    def warm_start(self) -> WarmStart:
        """Initial densities to start labels from; a model of them has no ghosts."""
        chosen = self._options.warm_start
        if self._has_ghosts and chosen in ("auto", "learned"):
            return "previous"
        return "previous" if isinstance(chosen, bool) else chosen

    @cached_property
    def _has_ghosts(self) -> bool:
        template = self._options.template
        return template is not None and has_ghosts(read(template))

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Prepare the input file for these atoms.

        Raises
        ------
        EngineError
            If the program or a pseudopotential is missing, or the template or the options do not
            fit the structure.
        """
        self.close()
        options = self._options
        started = launch(options)
        deck, species, ghosts = self._deck_for(atoms)
        self._cell = cell_for(
            ghosts.added(atoms),
            vacuum_A=options.vacuum_A,
            template=cell_of(deck) if options.takes_cell else None,
            source=deck.source,
        )
        assert options.pseudo_path is not None
        job = Job(
            started,
            deck,
            species,
            ghosts,
            options.pseudo_path,
            scratch,
            LabelDirectories(scratch),
            self._patience,
        )
        job.check_files()
        if is_field(word for line in deck.block(_FIELD) or () for word in line.split()):
            warn_of_field(deck.source, _FIELD)
        self._basis = fingerprint(deck, species)
        self._job = job
        self._strategy = (
            ByProcess(job)
            if options.connection == "process"
            else ByServer(
                job, options.connection, options.host, extrapolates=bool(options.history_depth)
            )
        )

    def _deck_for(self, atoms: Atoms) -> tuple[Deck, list[str], Ghosts]:
        """The input without a structure, the species label of each site, and the ghosts."""
        options, symbols = self._options, list(atoms.symbols)
        original = make_deck(options, sorted(set(symbols)), charge=self._charge, spin=self._spin)
        deck = original.copy()
        if self.capabilities.matrices:
            self._occupation = occupation_of(deck, atoms, self._spin)
            assert options.pseudo_path is not None
            require_alike(deck, options.pseudo_path)
            if self._occupation is not None and gamma_only(deck):
                # Otherwise elements of the matrices are sums over images, as at k = 0.
                deck.put("ForceAuxCell", "T")
        ghosts, elements = Ghosts.of(deck, len(atoms)), species_elements(deck)
        template = [label for label in species_of_sites(deck) if label in elements]
        species = ghosts.with_labels(name_species(symbols, template, elements, deck.source))
        set_output(
            deck,
            history_depth=options.history_depth,
            hamiltonian=self.capabilities.matrices,
            kept=options.keywords,
        )
        if options.template is not None:
            for line in deck.changes_from(original):
                _LOG.info("input: %s", line)
        return deck, species, ghosts

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """See :class:`otf.engines.protocol.LabelSource`."""
        job, strategy = self._opened()
        refused = too_close(atoms, "SIESTA")
        if refused is not None:
            return refused
        before = job.directories.left_by(index - 1, self._basis)
        if FROM_SCRATCH in remedies or not self._options.warm_start:
            before = None
        question = Question(
            placed(job.ghosts.added(atoms), self._cell),
            index,
            before,
            tuple(remedies),
            None if guess is None else guess.density_matrix,
        )
        self._ended_in = None
        labels = self._one_shot(job, question) if self._options.mode == "one_shot" else None
        if labels is None:
            found = strategy.label(question)
            if isinstance(found, LabelFailure):
                strategy.stop()  # its state is undefined after a failure
                return found
            labels, self._ended_in = found.labels, found.directory
        if not self._patience.seconds:
            _warn_of_new_keywords(job.deck, labels.provenance)
        self._patience.seconds.append(labels.wall_s)
        if (job.directories.path(index) / DENSITY_MATRIX).exists():
            job.directories.succeeded(index, self._basis)
        return labels

    def _one_shot(self, job: Job, question: Question) -> Labels | None:
        """A label by one diagonalisation; None if its error is too large.

        Its matrices are not returned: they follow from a learned guess and are no new data.
        """
        if question.guess is None or question.before is None or question.remedies:
            return None
        answer, error, done = diagonalise_once(job, question)
        if answer is None or not 1e3 * error < self._options.one_shot_error_meV_A:
            return None
        how = f" (one shot, forces within {1e3 * error:.1f} meV/A)"
        directory = job.directories.path(question.index)
        return job.labels(directory, answer, done, cycles=1, how=how)

    def check_forces(
        self, atoms: Atoms, *, index: int, guess: DensityGuess | None = None
    ) -> ForceCheck | None:
        """See :class:`otf.engines.protocol.LabelSource`."""
        job, _ = self._opened()
        before = job.directories.left_by(index - 1, self._basis)
        if guess is None or before is None or too_close(atoms, "SIESTA") is not None:
            return None
        boxed = placed(job.ghosts.added(atoms), self._cell)
        question = Question(boxed, index, before, guess=guess.density_matrix)
        answer, within, _ = diagonalise_once(job, question)
        return None if answer is None else ForceCheck(job.ghosts.without(answer.forces), within)

    def one_step(self, atoms: Atoms, *, index: int, guess: DensityGuess) -> Matrices | LabelFailure:
        """See :meth:`otf.engines.protocol.Engine.one_step`."""
        job, _ = self._opened()
        refused = too_close(atoms, "SIESTA")
        if refused is not None:
            return refused
        boxed = placed(job.ghosts.added(atoms), self._cell)
        before = job.directories.left_by(index, self._basis)
        if before is None:  # the orbitals and their order are known from the files of any cycle
            first = one_cycle(job, Question(boxed, index, None))
            if isinstance(first, LabelFailure):
                return first
            before = first
        question = Question(boxed, index + 1, before, guess=guess.density_matrix)
        found = one_cycle(job, question)
        if isinstance(found, LabelFailure):
            return found
        job.directories.succeeded(index + 1, self._basis)
        self._ended_in = found
        return self.matrices() or LabelFailure(
            "SIESTA: the Hamiltonian cannot be read", f"look at {found}"
        )

    def matrices(self) -> Matrices | None:
        """See :class:`otf.engines.protocol.LabelSource`."""
        if self._ended_in is None or not self.capabilities.matrices:
            return None
        try:
            found = read_matrices(self._ended_in, NAME, self._occupation)
        except Exception as error:  # sisl raises various errors, and the label is still valid
            _LOG.warning("%s: its matrices cannot be read: %s", self._ended_in, error)
            return None
        if found is None:
            return None
        if self._orbitals is None:
            elements = species_elements(self._opened()[0].deck)
            self._orbitals = read_orbitals(self._ended_in, elements)
        return replace(found, basis=self._basis, orbitals=self._orbitals)

    def pause(self) -> None:
        """End the server, whose idle ranks occupy cores; the next label starts another."""
        if self._strategy is not None:
            self._strategy.stop()

    def close(self) -> None:
        """End the server; may be called twice."""
        self.pause()
        self._strategy = None
        self._job = None

    @classmethod
    def finished(cls, folder: Path) -> FinishedCalculation | None:
        """See :meth:`otf.engines.protocol.Engine.finished`."""
        return read_finished(folder)

    @classmethod
    def doctor(cls) -> EngineReport:
        """Whether there is a program called siesta."""
        found = shutil.which("siesta")
        if found is None:
            return EngineReport(False, "", ["no 'siesta' on the PATH: name it in engine.command"])
        with TemporaryDirectory(prefix="otf-siesta-") as folder:
            # With empty input it prints its version and stops.
            run_program([found], Path(folder), stdout="o", stderr="e", timeout_s=_LAUNCH_S)
            said = answers.text(Path(folder) / "o") + answers.text(Path(folder) / "e")
        version = read_version(said)
        if not version:
            return EngineReport(False, "", [found, f"does not start: {said.strip()[-200:]}"])
        return EngineReport(
            True, version, [found, "a server over a socket; or one process a label"]
        )

    @classmethod
    def job(cls, path: Path) -> InputJob:
        """The job of an input file."""
        return read_job(read(path), path.parent)

    @classmethod
    def method_of(cls, path: Path) -> str:
        """See :meth:`otf.engines.protocol.Engine.method_of`."""
        return read(path).method(NOT_OF_THE_METHOD)

    @classmethod
    def keep_input(cls, path: Path, target: Path) -> None:
        """Copy an input file with its include files inlined."""
        target.write_text(whole_text(path), encoding="utf-8")

    def _opened(self) -> tuple[Job, ByProcess | ByServer]:
        if self._job is None or self._strategy is None:
            raise EngineError("the siesta engine was not opened")
        return self._job, self._strategy


def _warn_of_new_keywords(deck: Deck, provenance: str) -> None:
    """Name keywords of SIESTA 5 that an older program has ignored."""
    if constants_of(provenance.split()[1]) is not LEGACY:
        return
    for name in NEW_IN_5.values():
        if deck.value(name) is not None or deck.block(name) is not None:
            _LOG.warning(
                "%s: %s is a keyword of SIESTA 5, which this one ignores", deck.source, name
            )

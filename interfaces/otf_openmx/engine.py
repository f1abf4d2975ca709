"""Labels by OpenMX, one process per label in its own directory."""

import json
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
from otf.engines.external_field import is_field, warn_of_field
from otf.engines.failures import FROM_SCRATCH, diagnose
from otf.engines.input_deck import Deck
from otf.engines.job import InputJob
from otf.engines.label_directories import LabelDirectories
from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.engines.launch import Launch, launch
from otf.engines.placement import cell_for, name_species, placed
from otf.engines.process import Finished, Patience, run_program
from otf.engines.protocol import Capabilities, DensityGuess, Engine, FinishedCalculation, WarmStart
from otf.engines.sanity import impossible, misplaced, too_close
from otf.errors import EngineError
from otf.orbitals.block_matrices import Matrices
from otf_openmx.changes import NAME, NOT_OF_THE_METHOD, apply_remedies, set_output
from otf_openmx.deck import OpenmxDeck, read
from otf_openmx.densities import begin_from
from otf_openmx.failures import KNOWN, Evidence
from otf_openmx.finished import read_finished
from otf_openmx.geometry import (
    Sites,
    cell_of_molecule,
    empty_sites,
    initial_states,
    rows_of_atoms,
    species_elements,
    write_structure,
)
from otf_openmx.input_job import read_job
from otf_openmx.matrices import Occupation, occupation_of, read_matrices
from otf_openmx.occupations import entropy_term
from otf_openmx.options import WARM_MIXING, Options, make_deck, valence_of_species
from otf_openmx.output import (
    read_cycle,
    read_out,
    read_stress,
    read_version,
    text,
)

_LOG = logging.getLogger("otf.openmx")

_FIELD = "scf.Electric.Field"
_ECHO_A = 2e-5  # positions are echoed with five decimals
_LAUNCH_S = 20.0


class OpenmxEngine(Engine):
    """OpenMX, one process per label, warm-started from the restart files of the last label."""

    kind: ClassVar[str] = "openmx"
    Options: ClassVar[type[BaseModel]] = Options
    with_matrices: ClassVar[dict[str, str | bool]] = {"keep_matrices": True}
    may_change: ClassVar[tuple[str, ...]] = (
        "command", "ranks", "threads", "launcher", "data_path", "timeout_s", "keywords",
        "known_keywords", "keep_matrices", "warm_start",
    )  # fmt: skip
    without_effect: ClassVar[tuple[str, ...]] = (
        "command", "ranks", "threads", "launcher", "data_path", "timeout_s", "known_keywords",
        "keep_matrices", "warm_start", "vacuum_A", "stress", "atomic_energies",
    )  # fmt: skip

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None:
        assert isinstance(options, Options)
        self._options = options
        self._charge = charge
        self._spin = spin
        self._directories: LabelDirectories | None = None
        self._launch = Launch([], {})
        self._deck: Deck = OpenmxDeck([], "")
        self._cell: Floats = np.zeros((3, 3))
        self._species: list[str] = []
        self._states: list[str] = []
        self._empty: Sites | None = None
        self._occupation: Occupation | None = None
        self._ended_in: Path | None = None  # directory of the latest label
        self._patience = Patience(options.timeout_s)
        self._warned = False  # that the entropy is unknown

    @property
    def warm_start(self) -> WarmStart:
        """Initial densities to start labels from."""
        chosen = self._options.warm_start
        return "previous" if isinstance(chosen, bool) else chosen

    @property
    def capabilities(self) -> Capabilities:
        """Every system is periodic in OpenMX; a molecule is placed in a box."""
        return Capabilities(
            periodic=True,
            stress=self._options.stress,
            atomic_energies=self._options.atomic_energies,
            level="DFT",
            matrices=self._options.keep_matrices or self.warm_start != "previous",
            grid=True,
        )

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Prepare the input file for these atoms.

        Raises
        ------
        EngineError
            If the program is missing, or the template or the options do not fit the atoms.
        """
        self._launch = launch(self._options)
        symbols = list(atoms.symbols)
        original = make_deck(
            self._options, sorted(set(symbols)), charge=self._charge, spin=self._spin
        )
        for line in original.repeated:
            _LOG.warning("%s", line)
        if is_field((original.value(_FIELD) or "").split()):
            warn_of_field(original.source, _FIELD)
        self._deck = original.copy()
        self._cell = cell_for(
            atoms,
            vacuum_A=self._options.vacuum_A,
            template=cell_of_molecule(self._deck, atoms) if self._options.takes_cell else None,
            source=self._deck.source,
        )
        set_output(
            self._deck,
            stress=self._options.stress and bool(atoms.pbc.all()),
            atomic_energies=self._options.atomic_energies,
            matrices=self.capabilities.matrices,
            kept=self._options.keywords,
        )
        rows = rows_of_atoms(self._deck)
        named, elements = [row[1] for row in rows], species_elements(self._deck)
        self._empty = empty_sites(self._deck) if rows else None
        self._species = name_species(symbols, named, elements, self._deck.source)
        valence = valence_of_species(self._deck)
        self._states = initial_states(self._deck, self._species, valence, spin=self._spin)
        if self.capabilities.matrices:
            if self._empty is not None:
                raise EngineError(
                    f"{self._deck.source}: has empty sites, whose basis functions otf does not "
                    "learn: leave engine.warm_start at true and engine.keep_matrices at false"
                )
            key = "engine.keep_matrices" if self._options.keep_matrices else "engine.warm_start"
            self._occupation = occupation_of(self._deck, atoms, valence, key)
            self._needs_orbitals()
        if self._options.template is not None:
            for line in self._deck.changes_from(original):
                _LOG.info("input: %s", line)
        self._directories = LabelDirectories(scratch)

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """See :class:`otf.engines.protocol.LabelSource`."""
        if self._directories is None:
            raise EngineError("the openmx engine was not opened")
        refused = too_close(atoms, "OpenMX")
        if refused is not None:
            return refused
        self._ended_in = None
        directory = self._directories.fresh(index)
        deck = self._deck.copy()
        boxed = placed(atoms, self._cell)
        write_structure(deck, boxed, self._species, self._states, self._empty)
        warm = self._seed(deck, directory, index, remedies)
        if warm and guess is not None and guess.density is not None:
            try:
                self._begin_from(guess, boxed, index, directory)
            except EngineError as error:  # the density of the last label remains
                _LOG.warning("label %d: the initial density guess is not used: %s", index, error)
        if warm and self._options.template is None:
            for name, value in WARM_MIXING.items():
                deck.put(name, value)
        apply_remedies(deck, remedies)
        done = self._run(deck, directory)
        answer = self._read(directory, boxed, done, warm, remedies)
        if isinstance(answer, Labels):
            self._patience.seconds.append(done.wall_s)
            self._directories.succeeded(index, self._fingerprint())
            self._ended_in = directory
        return answer

    def one_step(self, atoms: Atoms, *, index: int, guess: DensityGuess) -> Matrices | LabelFailure:
        """See :meth:`otf.engines.protocol.Engine.one_step`."""
        if self._directories is None:
            raise EngineError("the openmx engine was not opened")
        refused = too_close(atoms, "OpenMX")
        if refused is not None:
            return refused
        boxed, self._ended_in = placed(atoms, self._cell), None
        if self._directories.left_by(index, self._fingerprint()) is None:
            self._one_cycle(boxed, index, None)  # its files show the grid
        self._one_cycle(boxed, index + 1, guess)
        self._ended_in = self._directories.path(index + 1)
        return self.matrices() or LabelFailure(
            "OpenMX: the Hamiltonian cannot be read", f"look at {self._ended_in}"
        )

    def _one_cycle(self, atoms: Atoms, index: int, guess: DensityGuess | None) -> None:
        """One cycle from a density, or from those of the atoms.

        Raises
        ------
        EngineError
            If the density is not known on the grid.
        """
        assert self._directories is not None
        directory, deck = self._directories.fresh(index), self._deck.copy()
        write_structure(deck, atoms, self._species, self._states, self._empty)
        self._seed(deck, directory, index, ())
        if guess is not None:
            self._begin_from(guess, atoms, index, directory)
        deck.put("scf.maxIter", 1)
        self._run(deck, directory)
        self._directories.succeeded(index, self._fingerprint())

    def _begin_from(self, guess: DensityGuess, atoms: Atoms, index: int, directory: Path) -> None:
        assert self._directories is not None
        elements = None if self._occupation is None else self._occupation.elements
        begin_from(guess, atoms, self._directories.path(index - 1), directory, elements)

    def _run(self, deck: Deck, directory: Path) -> Finished:
        """Run OpenMX to its end."""
        (directory / f"{NAME}.dat").write_text(deck.text(), encoding="utf-8")
        return run_program(
            [*self._launch.words, f"{NAME}.dat", "-nt", str(self._options.threads)],
            directory,
            stdout=f"{NAME}.std",
            stderr=f"{NAME}.err",
            timeout_s=self._patience.limit_s,
            environment=self._launch.environment,
        )

    def matrices(self) -> Matrices | None:
        """See :class:`otf.engines.protocol.LabelSource`."""
        if self._ended_in is None or self._occupation is None:
            return None
        try:
            found = read_matrices(self._ended_in / f"{NAME}.scfout", self._occupation)
        except (EngineError, ValueError) as error:  # the label is still valid
            _LOG.warning("%s: the matrices cannot be read: %s", self._ended_in, error)
            return None
        return replace(found, basis=self._fingerprint())

    def close(self) -> None:
        """Close the engine; no process runs between labels."""
        self._directories = None

    @classmethod
    def finished(cls, folder: Path) -> FinishedCalculation | None:
        """A calculation with its ``.scfout`` file."""
        return read_finished(folder)

    @classmethod
    def doctor(cls) -> EngineReport:
        """Check whether ``openmx`` is on the PATH and starts."""
        found = shutil.which("openmx")
        if found is None:
            return EngineReport(False, "", ["no 'openmx' on the PATH: name it in engine.command"])
        with TemporaryDirectory(prefix="otf-openmx-") as folder:
            run_program(
                [found, "none.dat"], Path(folder), stdout="o", stderr="e", timeout_s=_LAUNCH_S
            )
            said = text(Path(folder) / "o") + text(Path(folder) / "e")
        if "can not open" not in said:
            return EngineReport(False, "", [found, f"does not start: {said.strip()[-200:]}"])
        return EngineReport(
            True, "starts", [found, "the first label reports its version", "one process per label"]
        )

    @classmethod
    def job(cls, path: Path) -> InputJob:
        """Read the job of an OpenMX input file."""
        return read_job(read(path))

    @classmethod
    def method_of(cls, path: Path) -> str:
        """See :meth:`otf.engines.protocol.Engine.method_of`."""
        return read(path).method(NOT_OF_THE_METHOD)

    def _fingerprint(self) -> str:
        """Settings that restart files depend on, besides the positions."""
        deck = self._deck
        names = ("scf.energycutoff", "DATA.PATH", "scf.SpinPolarization", "scf.Kgrid")
        return json.dumps(
            {
                "species": deck.block("Definition.of.Atomic.Species"),
                "atoms": self._species,
                "cell": self._cell.tolist(),
                "command": self._options.command,
                **{name: deck.value(name) for name in names},
            }
        )

    def _seed(self, deck: Deck, directory: Path, index: int, remedies: Collection[str]) -> bool:
        """Copy the restart files of the last label; return whether the density is among them."""
        assert self._directories is not None
        before = self._directories.left_by(index - 1, self._fingerprint())
        if not self._options.warm_start or before is None:
            deck.put("scf.restart", "off")
            return False
        source, target = before / f"{NAME}_rst", directory / f"{NAME}_rst"
        warm = FROM_SCRATCH not in remedies
        if warm:
            shutil.copytree(source, target)
        else:  # basis tables only: the start-up stays fast, the density is new
            target.mkdir()
            for table in source.glob("*.ft*"):
                shutil.copy(table, target)
        deck.put("scf.restart", "on")
        return warm

    def _needs_orbitals(self) -> None:
        """Raise if the warm start needs the orbital files and one is missing."""
        known = self._occupation
        if self.warm_start != "previous" and known is not None and known.orbitals is None:
            raise EngineError(
                f"engine.warm_start: {self.warm_start} needs the orbitals in "
                f"{self._deck.value('DATA.PATH')}/PAO, where one is missing; leave it at true"
            )

    def _read(
        self,
        directory: Path,
        atoms: Atoms,
        done: Finished,
        warm: bool,
        remedies: Collection[str],
    ) -> Labels | LabelFailure:
        stdout, out = text(directory / f"{NAME}.std"), text(directory / f"{NAME}.out")
        printed = read_out(out)
        evidence = Evidence(
            done, stdout, text(directory / f"{NAME}.err"), printed is not None, warm
        )
        failure = diagnose("OpenMX", KNOWN, evidence, remedies, str(directory))
        if failure is not None:
            return failure
        cycle = read_cycle(stdout)
        assert printed is not None  # an incomplete output is a known failure
        assert cycle is not None
        n_empty = 0 if self._empty is None else len(self._empty.rows)
        printed = printed.first(max(0, len(printed.forces) - n_empty))
        problem = impossible(printed.energy, printed.forces, len(atoms)) or misplaced(
            atoms, printed.positions, _ECHO_A
        )
        if problem is not None:
            return LabelFailure(
                f"OpenMX: {problem}",
                f"look at the structure and at {directory}",
                remedy=FROM_SCRATCH if warm else None,
            )
        entropy = self._entropy_term(out)
        atomic = printed.atomic_energies if self._options.atomic_energies else None
        return Labels(
            energy=printed.energy + entropy,
            forces=printed.forces,
            stress=read_stress(stdout) if self._deck.flag("scf.stress.tensor") else None,
            # The entropy belongs to the structure; shared, the sum is that of the forces.
            atomic_energies=None if atomic is None else atomic + entropy / len(atoms),
            scf_iterations=cycle.iterations,
            wall_s=done.wall_s,
            provenance=f"OpenMX {read_version(stdout)} {self._deck.value('scf.XcType')} "
            f"{self._deck.value('scf.energycutoff')} Ry",
        )

    def _entropy_term(self, out: str) -> float:
        """-T S of the electrons, eV; 0, with a warning, if the output does not give it."""
        temperature_K = float(self._deck.value("scf.ElectronicTemperature") or 300.0)
        found = entropy_term(out, temperature_K)
        if found is None and not self._warned:
            self._warned = True
            _LOG.warning(
                "OpenMX lists no complete eigenvalues (scf.EigenvalueSolver: %s): energies are "
                "Utot, without the entropy that belongs to the forces at %g K",
                self._deck.value("scf.EigenvalueSolver"),
                temperature_K,
            )
        return found or 0.0

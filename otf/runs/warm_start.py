"""Warm start of labels from the best initial density guess.

The matrices of every label are kept in a file each. The choice of the guess depends only on the
files of earlier labels, so that a resumed run repeats its labels exactly.
"""

import functools
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.driver.records import LabelRecord
from otf.electrons.density.through_matrix import OrbitalValues, density_on
from otf.electrons.density_guesses import EXTRAPOLATED, LEARNED, PREVIOUS, DensityGuesses
from otf.engines.failures import FROM_SCRATCH
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import Capabilities, DensityGuess, ForceCheck, LabelSource, WarmStart
from otf.errors import FileError
from otf.io.matrices import LabelMatrices, read_matrices, write_matrices
from otf.io.orbitals import read_orbitals, write_orbitals
from otf.orbitals.block_matrices import BlockMatrix, Matrices

_LOG = logging.getLogger("otf.warm_start")

SCRATCH = "scratch"
_ORBITALS = "orbitals.h5"
_RECENT = 3  # labels over which the errors of guesses are compared
_TRY_EVERY = 8  # labels between retries of a guess that saved nothing
_CANDIDATES: dict[WarmStart, tuple[str, ...]] = {
    "auto": (PREVIOUS, EXTRAPOLATED, *LEARNED),
    "extrapolate": (EXTRAPOLATED,),
    "learned": LEARNED,
    "previous": (),
}


def warm_started(engine: LabelSource, folder: Path) -> LabelSource:
    """Wrap an engine to start from initial density guesses, if it returns matrices.

    Labels that are computed at once do not know each other: each learns from those so many before.

    Parameters
    ----------
    folder
        Folder of the labels' matrices.
    """
    if not engine.capabilities.matrices:
        return engine
    return WarmStarted(engine, folder, _CANDIDATES[engine.warm_start], unknown=engine.at_once - 1)


@dataclass(frozen=True)
class _Start:
    """The guess a label was started from, its SCF iterations, and the errors of all guesses."""

    name: str
    iterations: int | None
    errors: dict[str, float]


class WarmStarted(LabelSource):
    """An engine whose labels start from the best initial density guess.

    Parameters
    ----------
    candidates
        Guesses that may be used; if empty, the engine chooses its start and matrices are only kept.
    unknown
        Latest labels that may not be complete yet.
    """

    def __init__(
        self,
        engine: LabelSource,
        folder: Path,
        candidates: tuple[str, ...],
        *,
        unknown: int = 0,
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._candidates = candidates
        self._unknown = unknown
        self._lock = threading.Lock()  # of all below, for labels that are computed at once
        self._guesses = DensityGuesses()
        self._learned = 0  # labels before this one were learned
        self._starts: list[_Start] = []
        self._basis: str | None = None  # of the orbitals written

    @property
    def capabilities(self) -> Capabilities:
        """Those of the engine."""
        return self._engine.capabilities

    @property
    def warm_start(self) -> WarmStart:
        """See :class:`otf.engines.protocol.LabelSource`."""
        return self._engine.warm_start

    @property
    def at_once(self) -> int:
        """See :class:`otf.engines.protocol.LabelSource`."""
        return self._engine.at_once

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """A label started from ``guess`` if given, else from the best initial density guess."""
        with suppress(OSError):
            self._file(index).unlink()  # of a label that was not committed
        guesses: dict[str, BlockMatrix] = {}
        chosen = SCRATCH if FROM_SCRATCH in remedies or index <= self._unknown else PREVIOUS
        with self._lock:
            if self._candidates:
                self._catch_up(max(0, index - self._unknown))
                guesses = {} if FROM_SCRATCH in remedies else self._guesses.of(atoms)
                chosen = self._best(guesses, index)
            # The engine itself starts from the density matrix of the previous label.
            if guess is None and chosen not in (PREVIOUS, SCRATCH):
                guess = self._guess(guesses[chosen])
        answer = self._engine.label(atoms, index=index, remedies=remedies, guess=guess)
        matrices = self.matrices() if isinstance(answer, Labels) else None
        if isinstance(answer, Labels) and matrices is not None:
            errors = {
                name: _distance(p, matrices.density)
                for name, p in guesses.items()
                if p.shells == matrices.density.shells
            }
            label = LabelMatrices(atoms, matrices, chosen, answer.scf_iterations, errors)
            try:
                with self._lock:
                    write_matrices(self._file(index), label)
                    self._keep_orbitals(matrices)
            except (FileError, OSError) as error:  # the label itself is more important
                _LOG.warning("label %d: its matrices are not kept: %s", index, error)
            _LOG.info("label %d: started from: %s", index, chosen)
        return answer

    def matrices(self) -> Matrices | None:
        """Matrices of the engine."""
        return self._engine.matrices()

    def check_forces(
        self, atoms: Atoms, *, index: int, guess: DensityGuess | None = None
    ) -> ForceCheck | None:
        """Forces of ``guess`` if given, else of the best learned density guess."""
        if guess is None:
            self._catch_up(index)
            guesses = self._guesses.of(atoms)
            chosen = self._best(guesses, index)
            if chosen in (SCRATCH, PREVIOUS):
                return None
            guess = self._guess(guesses[chosen])
        return self._engine.check_forces(atoms, index=index, guess=guess)

    def pause(self) -> None:
        """See :class:`otf.engines.protocol.LabelSource`."""
        self._engine.pause()

    def _guess(self, density_matrix: BlockMatrix) -> DensityGuess:
        """The guess, with its density in real space if the orbitals are stored."""
        try:
            functions = read_orbitals(self._folder / _ORBITALS, self._guesses.basis)
        except FileError:
            return DensityGuess(density_matrix)
        values = OrbitalValues(density_matrix.shells, functions)
        return DensityGuess(density_matrix, functools.partial(density_on, density_matrix, values))

    def _keep_orbitals(self, matrices: Matrices) -> None:
        """Write the radial functions, which are the same for all labels of a basis."""
        if matrices.orbitals is None or self._basis == matrices.basis:
            return
        write_orbitals(self._folder / _ORBITALS, matrices.basis, matrices.orbitals)
        self._basis = matrices.basis

    def _best(self, guesses: Mapping[str, BlockMatrix], index: int) -> str:
        """The candidate with the smallest error at the latest labels.

        If such starts recently took more SCF iterations than the density matrix of the previous
        label, that is used, with periodic retries: matrix errors predict iterations only roughly.
        """
        if not guesses:
            return SCRATCH
        recent = [start.errors for start in self._starts[-_RECENT:]]
        known = [
            name
            for name in self._candidates
            if name in guesses and recent and all(name in errors for errors in recent)
        ]
        if not known:
            return PREVIOUS
        nearest = min(known, key=lambda name: sum(errors[name] for errors in recent))
        if PREVIOUS in self._candidates and nearest != PREVIOUS and index % _TRY_EVERY:
            better, usual = self._cycles(better=True), self._cycles(better=False)
            if len(better) == _RECENT and usual and np.mean(better) > np.mean(usual):
                return PREVIOUS
        return nearest

    def _cycles(self, *, better: bool) -> list[int]:
        """SCF iterations of the latest labels by start: a better guess, or the previous label."""
        found = [
            start.iterations
            for start in self._starts
            if start.iterations is not None
            and start.name != SCRATCH
            and (start.name != PREVIOUS) == better
        ]
        return found[-_RECENT:]

    def _catch_up(self, index: int) -> None:
        """Learn exactly the labels before this one, also if it is computed a second time."""
        if self._learned > index:
            self._guesses, self._learned, self._starts = DensityGuesses(), 0, []
        for number in range(self._learned, index):
            label = _read(self._file(number))
            if label is not None:
                self._guesses.learn(label.atoms, label.matrices)
                self._starts.append(_Start(label.start, label.iterations, label.errors))
        self._learned = index

    def _file(self, index: int) -> Path:
        return self._folder / f"{index:06d}.h5"


@dataclass(frozen=True)
class Gains:
    """SCF iterations and time saved by initial density guesses.

    Attributes
    ----------
    by_start
        Number of labels and mean SCF iterations, by the start.
    cycles, seconds
        SCF iterations and time saved against starts from the previous label in the same run; None
        if there were none.
    """

    by_start: dict[str, tuple[int, float]]
    cycles: float | None
    seconds: float | None

    def in_words(self) -> list[str]:
        """A line for each start, and one for what was saved."""
        lines = [
            f"{mean:.1f} from the {name} ({count})"
            for name, (count, mean) in self.by_start.items()
            if name != SCRATCH
        ]
        if self.cycles is not None and self.seconds is not None:
            lines.append(f"{self.cycles:.0f} cycles saved by it, or {self.seconds:.0f} s")
        return lines


def gains(folder: Path, history: Sequence[LabelRecord]) -> Gains | None:
    """Savings by the initial density guesses of a run; None if none were used.

    Seconds are SCF iterations times the time per iteration, from a fit to the labels.
    """
    found: dict[str, list[int]] = {}
    for record in history:
        path = folder / f"{record.index:06d}.h5"
        label = _read(path) if record.scf_iterations is not None else None
        if label is not None and record.scf_iterations is not None:
            found.setdefault(label.start, []).append(record.scf_iterations)
    if not found:
        return None
    by_start = {name: (len(cycles), float(np.mean(cycles))) for name, cycles in found.items()}
    better = [
        n for name, cycles in found.items() if name not in (SCRATCH, PREVIOUS) for n in cycles
    ]
    if PREVIOUS not in by_start or not better:
        return Gains(by_start, None, None)
    usual = by_start[PREVIOUS][1]
    saved = sum(usual - n for n in better)
    known = [r for r in history if r.scf_iterations is not None]
    cycles = np.array([float(r.scf_iterations or 0) for r in known])
    walls = np.array([r.wall_s for r in known])
    spread = cycles - cycles.mean()
    variance = float(spread @ spread)
    each = float(spread @ walls) / variance if variance else 0.0
    return Gains(by_start, saved, max(0.0, each) * saved)


def _read(path: Path) -> LabelMatrices | None:
    """Matrices of a label; None if there are none or the file is damaged."""
    if not path.exists():
        return None
    try:
        return read_matrices(path)
    except FileError as error:
        _LOG.warning("%s; the run goes on without it", error)
        return None


def _distance(one: BlockMatrix, other: BlockMatrix) -> float:
    """Root mean square difference over the nonzero elements of ``other``."""
    there = other.values != 0.0
    difference = one.on(other.pairs).values[there] - other.values[there]
    return float(np.sqrt(np.mean(difference**2)))

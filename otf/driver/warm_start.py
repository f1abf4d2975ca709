"""Labels started from the density matrix that is likely nearest to the answer.

Matrices of every label are kept in a file each. What a label is started from follows from the files
of the labels before it, so that a resumed run repeats its labels exactly.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.diagnosis import FROM_SCRATCH
from otf.driver.labelling import Asked
from otf.electrons.guesses import EXTRAPOLATED, LEARNED, PREVIOUS, Guesses
from otf.engine import WarmStart, WithMatrices
from otf.io.matrices import LabelMatrices, read_matrices, write_matrices
from otf.labels import LabelFailure, Labels
from otf.orbitals import BlockMatrix

_LOG = logging.getLogger("otf.warm_start")

SCRATCH = "scratch"
_RECENT = 3  # labels that tell which guess is the best
_CANDIDATES: dict[WarmStart, tuple[str, ...]] = {
    "auto": (PREVIOUS, EXTRAPOLATED, *LEARNED),
    "extrapolate": (EXTRAPOLATED,),
    "learned": LEARNED,
}


def warm_started(engine: Asked, folder: Path) -> Asked:
    """The engine, or one that starts it better where it takes density matrices.

    Parameters
    ----------
    folder
        Where matrices of labels are kept.
    """
    if not isinstance(engine, WithMatrices) or engine.warm_start == "previous":
        return engine
    return WarmStarted(engine, folder, _CANDIDATES[engine.warm_start])


class WarmStarted:
    """An engine whose labels start from the best guess.

    Parameters
    ----------
    candidates
        What may be used.
    """

    def __init__(self, engine: WithMatrices, folder: Path, candidates: tuple[str, ...]) -> None:
        self._engine = engine
        self._folder = folder
        self._candidates = candidates
        self._guesses = Guesses()
        self._learned = 0  # labels before this one are known
        self._errors: list[dict[str, float]] = []

    def label(
        self, atoms: Atoms, *, index: int, remedies: Collection[str] = ()
    ) -> Labels | LabelFailure:
        """See :meth:`otf.engine.Engine.label`."""
        self._catch_up(index)
        guesses = {} if FROM_SCRATCH in remedies else self._guesses.of(atoms)
        chosen = self._best(guesses)
        # From the density matrix of the label before an engine starts by itself.
        guess = None if chosen in (PREVIOUS, SCRATCH) else guesses[chosen]
        answer = self._engine.label(atoms, index=index, remedies=remedies, guess=guess)
        matrices = self._engine.matrices()
        if isinstance(answer, Labels) and matrices is not None:
            errors = {name: _distance(p, matrices.density) for name, p in guesses.items()}
            label = LabelMatrices(atoms, matrices, chosen, answer.scf_iterations, errors)
            write_matrices(self._file(index), label)
            _LOG.info("label %d: started from: %s", index, chosen)
        return answer

    def pause(self) -> None:
        """As the engine's own, where it has one."""
        getattr(self._engine, "pause", lambda: None)()

    def _best(self, guesses: Mapping[str, BlockMatrix]) -> str:
        """The candidate that was nearest of late, each measured at the latest labels."""
        if not guesses:
            return SCRATCH
        recent = self._errors[-_RECENT:]
        known = [
            name
            for name in self._candidates
            if name in guesses and recent and all(name in errors for errors in recent)
        ]
        if not known:
            return PREVIOUS
        return min(known, key=lambda name: sum(errors[name] for errors in recent))

    def _catch_up(self, index: int) -> None:
        """Learn the labels before this one, and no other: it may be asked for twice."""
        if self._learned > index:
            self._guesses, self._learned, self._errors = Guesses(), 0, []
        for number in range(self._learned, index):
            path = self._file(number)
            if path.exists():
                label = read_matrices(path)
                self._guesses.learn(label.atoms, label.matrices)
                self._errors.append(label.errors)
        self._learned = index

    def _file(self, index: int) -> Path:
        return self._folder / f"{index:06d}.h5"


def starts(folder: Path) -> dict[str, list[int]]:
    """Cycles of the labels, by what they were started from."""
    found: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.h5")):
        label = read_matrices(path)
        if label.iterations is not None:
            found.setdefault(label.start, []).append(label.iterations)
    return found


def _distance(one: BlockMatrix, other: BlockMatrix) -> float:
    """Root mean square of the difference."""
    return float(np.sqrt(np.mean((one.values - other.values) ** 2)))

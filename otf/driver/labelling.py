"""Getting a label: from the file if it was paid for, else from the engine, with its remedies."""

import logging
from dataclasses import dataclass, replace

from ase import Atoms

from otf.engine import Engine
from otf.io.labels import LabelFile
from otf.labels import LabelFailure, Labels

_LOG = logging.getLogger("otf.labels")


@dataclass(frozen=True, eq=False)
class Labeller:
    """An engine and the file its answers are kept in."""

    engine: Engine
    file: LabelFile

    def label(self, atoms: Atoms, *, index: int, step: int) -> Labels | LabelFailure:
        """Label number ``index`` of the run; on the disk before it is returned."""
        stored = self.file.find(index, step, atoms)
        if stored is not None:
            _LOG.info("label %d, step %d: read from %s", index, step, self.file.path.name)
            return stored
        answer = ask(self.engine, atoms, index=index)
        if isinstance(answer, Labels):
            self.file.append(step, atoms, answer)
        return answer


def ask(engine: Engine, atoms: Atoms, *, index: int) -> Labels | LabelFailure:
    """Ask an engine, trying each remedy it offers once.

    Labels of a wrong shape or with a NaN are failures like any other.
    """
    bare = atoms.copy()
    remedies: list[str] = []
    wasted = 0.0
    while True:
        answer = engine.label(bare, index=index, remedies=tuple(remedies))
        if isinstance(answer, Labels):
            problem = answer.problem(len(atoms))
            if problem is None:
                return replace(answer, wall_s=answer.wall_s + wasted)
            wasted += answer.wall_s
            answer = LabelFailure(problem, "check the engine's input for this structure")
        if answer.remedy is None or answer.remedy in remedies:
            return answer
        _LOG.warning("label %d: %s; trying: %s", index, answer.reason, answer.remedy)
        remedies.append(answer.remedy)

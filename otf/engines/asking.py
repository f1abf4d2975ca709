"""One answer of an engine, with the remedies that it proposes for its failures."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from ase import Atoms

from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import LabelSource

_LOG = logging.getLogger("otf.labels")


def ask(
    engine: LabelSource, atoms: Atoms, *, index: int, remedies: Sequence[str] = ()
) -> Labels | LabelFailure:
    """Compute a label, trying each remedy the engine proposes once.

    Labels of a wrong shape or with a NaN are treated as failures.
    """
    bare = atoms.copy()
    bare.set_constraint()  # the forces must not be projected
    remedies = list(remedies)
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

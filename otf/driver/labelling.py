"""Getting a label: from the file if it was paid for, else from the engine, with its remedies.

An energy that the model cannot believe is asked for once more, from scratch: a self-consistent
answer in a wrong state converges like a right one, but not twice from different beginnings.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms

from otf.engines.failures import FROM_SCRATCH
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import ForceCheck, LabelSource
from otf.errors import RunError
from otf.io.labels import StoredLabel

_LOG = logging.getLogger("otf.labels")

SENSIBLE = 3
"""Labels from which on the model's energy is worth comparing."""
MOST_FAILURES = 3
"""In a row, before a run that may continue stops all the same."""

_UNBELIEVABLE_EV = 0.5  # an atom: labels and model differ by meV, chemistry by some tenths
_SAME_EV = 0.005  # an atom: two answers to one question


class LabelStore(Protocol):
    """Where labels are kept: :class:`otf.io.labels.LabelFile`, or memory."""

    @property
    def path(self) -> Path:
        """What messages call it."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> StoredLabel: ...

    def find(self, index: int, step: int, atoms: Atoms) -> Labels | None:
        """The stored label of this index, if there is one of this very geometry."""
        ...

    def append(self, step: int, atoms: Atoms, labels: Labels) -> None:
        """Keep a label."""
        ...


@dataclass(frozen=True, eq=False)
class Labeller:
    """An engine and the file its answers are kept in.

    Parameters
    ----------
    needs_stress
        Whether a label without stress is of no use.
    """

    engine: LabelSource
    file: LabelStore
    needs_stress: bool = False

    def check_forces(self, atoms: Atoms, *, index: int) -> ForceCheck | None:
        """Forces of a learned density matrix, without self-consistency; None without any."""
        bare = atoms.copy()
        bare.set_constraint()
        return self.engine.check_forces(bare, index=index)

    def label(
        self, atoms: Atoms, *, index: int, step: int, expected: float = float("nan")
    ) -> Labels | LabelFailure:
        """Label number ``index`` of the run; on the disk before it is returned.

        Parameters
        ----------
        expected
            Energy by the model, eV, where it has one.
        """
        stored = self.file.find(index, step, atoms)
        if stored is not None:
            _LOG.info("label %d, step %d: read from %s", index, step, self.file.path.name)
            return stored
        answer = ask(self.engine, atoms, index=index, expected=expected)
        if isinstance(answer, Labels) and self.needs_stress and answer.stress is None:
            return LabelFailure(
                "there is no stress in its label, and it is to be learned",
                "use an engine that computes it, or leave out constant pressure and "
                "model.stress_noise_GPa",
            )
        if isinstance(answer, Labels):
            self.file.append(step, atoms, answer)
        return answer


def ask(
    engine: LabelSource, atoms: Atoms, *, index: int, expected: float = float("nan")
) -> Labels | LabelFailure:
    """Ask an engine; twice where its energy is far from the expected one (eV).

    Labels of a wrong shape or with a NaN are failures like any other.
    """
    first = _ask_with_remedies(engine, atoms, index=index)
    if not isinstance(first, Labels) or not _differ(
        first.energy, expected, _UNBELIEVABLE_EV, atoms
    ):
        return first
    _LOG.warning(
        "label %d: %.3f eV where the model expects %.3f; asking again from scratch",
        index,
        first.energy,
        expected,
    )
    second = _ask_with_remedies(engine, atoms, index=index, remedies=[FROM_SCRATCH])
    if not isinstance(second, Labels):
        return second
    second = replace(second, wall_s=first.wall_s + second.wall_s)
    confirmed = not _differ(first.energy, second.energy, _SAME_EV, atoms)
    if confirmed or not _differ(second.energy, expected, _UNBELIEVABLE_EV, atoms):
        return second
    return LabelFailure(
        f"two answers to one structure, {first.energy:.3f} and {second.energy:.3f} eV, and the "
        f"model expects {expected:.3f}",
        "its self-consistency ends in different states: fix the spin, or raise the electronic "
        "temperature",
    )


def unlabelled(step: int, failure: LabelFailure) -> RunError:
    """What ends a run that cannot go on without a label."""
    return RunError(
        f"step {step}: the engine gave no label: {failure.reason}. {failure.advice}; then resume "
        "the run"
    )


def _differ(one: float, other: float, bound_eV: float, atoms: Atoms) -> bool:
    """Whether two energies (eV) are further apart than so much an atom; False for a NaN."""
    return bool(np.abs(one - other) > bound_eV * len(atoms))


def _ask_with_remedies(
    engine: LabelSource, atoms: Atoms, *, index: int, remedies: Sequence[str] = ()
) -> Labels | LabelFailure:
    """Ask an engine, trying each remedy it offers once."""
    bare = atoms.copy()
    bare.set_constraint()  # the engine's forces are to be whole
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

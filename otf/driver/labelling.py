"""Labels from the labels file if already computed, else from the engine, with its remedies.

If the energy is far from the model's prediction, the label is computed again from scratch:
self-consistency can converge to a wrong electronic state, but rarely twice from different starts.
So is one whose net force is far above that of the first labels. A net force alone is no fault:
grids, slabs and external fields have one, each its own.
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
"""Number of labels from which on energies are compared with the model's prediction."""
MOST_FAILURES = 3
"""Consecutive failures after which even a run that may continue without labels stops."""

_UNBELIEVABLE_EV = 0.5  # per atom: model errors are some meV, electronic states differ more
_SAME_EV = 0.005  # per atom, between two calculations of the same state
_FIRST, _FEWEST = 5, 3  # labels that show the usual net force, and the fewest of them
_UNUSUAL = 5.0  # times the usual net force
_NEGLIGIBLE_NET_FORCE = 0.02  # eV/Angstrom per atom
_NOTABLE_NET_FORCE = 0.05


class LabelStore(Protocol):
    """Storage of labels: :class:`otf.io.labels.LabelFile`, or memory."""

    @property
    def path(self) -> Path:
        """Name for messages."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> StoredLabel: ...

    def find(self, index: int, step: int, atoms: Atoms) -> Labels | None:
        """The stored label of this index, or None if there is none of exactly this geometry."""
        ...

    def append(self, step: int, atoms: Atoms, labels: Labels) -> None:
        """Store a label."""
        ...


@dataclass(frozen=True, eq=False)
class Labeller:
    """An engine and the file its labels are stored in.

    Parameters
    ----------
    needs_stress
        Whether a label without stress counts as a failure.
    subtracts_net_force
        Whether the mean force is subtracted from that of every atom.
    warns_of_net_force
        Whether a notable mean force of the first label is warned of.
    """

    engine: LabelSource
    file: LabelStore
    needs_stress: bool = False
    subtracts_net_force: bool = False
    warns_of_net_force: bool = True

    def check_forces(self, atoms: Atoms, *, index: int) -> ForceCheck | None:
        """Non-self-consistent forces from a learned density matrix; None if there is none."""
        bare = atoms.copy()
        bare.set_constraint()
        return self.engine.check_forces(bare, index=index)

    def label(
        self, atoms: Atoms, *, index: int, step: int, expected: float = float("nan")
    ) -> Labels | LabelFailure:
        """Label number ``index`` of the run, written to disk before it is returned.

        Parameters
        ----------
        expected
            Energy predicted by the model, eV; NaN if there is none.
        """
        stored = self.file.find(index, step, atoms)
        if stored is not None:
            _LOG.info("label %d, step %d: read from %s", index, step, self.file.path.name)
            return stored
        answer = ask(
            self.engine, atoms, index=index, expected=Expected(expected, self._most_net_force())
        )
        if isinstance(answer, Labels) and self.needs_stress and answer.stress is None:
            return LabelFailure(
                "there is no stress in its label, and the model is to learn it",
                "use an engine that computes it, or leave out constant pressure and "
                "model.stress_noise_GPa",
            )
        if isinstance(answer, Labels):
            if index == 0 and self.warns_of_net_force:
                self._warn_of_net_force(answer)
            if self.subtracts_net_force:
                answer = answer.without_net_force()
            self.file.append(step, atoms, answer)
        return answer

    def _warn_of_net_force(self, labels: Labels) -> None:
        if labels.net_force <= _NOTABLE_NET_FORCE:
            return
        outcome = "the model has no such force and errs by it, unless model.net_force: subtract"
        if self.subtracts_net_force:
            outcome = "it is subtracted from every label"
        _LOG.warning(
            "the forces add up to %.3f eV/A per atom, by the grid of the engine, a slab or an "
            "external field; %s",
            labels.net_force,
            outcome,
        )

    def _most_net_force(self) -> float:
        """Net force per atom above which a label is in doubt, by the first labels of the run."""
        first = [self.file[i].labels for i in range(min(_FIRST, len(self.file)))]
        if len(first) < _FEWEST or self.subtracts_net_force:  # nothing is known of it
            return float("inf")
        return max(_NEGLIGIBLE_NET_FORCE, _UNUSUAL * max(labels.net_force for labels in first))


@dataclass(frozen=True)
class Expected:
    """What a label is expected to be.

    Attributes
    ----------
    energy
        Energy predicted by the model, eV; NaN if there is none.
    most_net_force
        Largest usual net force per atom, eV/Angstrom.
    """

    energy: float = float("nan")
    most_net_force: float = float("inf")

    def doubts(self, labels: Labels, atoms: Atoms) -> list[str]:
        """What speaks against a label."""
        doubts = []
        if _differ(labels.energy, self.energy, _UNBELIEVABLE_EV, atoms):
            doubts.append(f"{labels.energy:.3f} eV where the model expects {self.energy:.3f}")
        if labels.net_force > self.most_net_force:
            doubts.append(
                f"the forces add up to {labels.net_force:.3f} eV/A per atom, where at most "
                f"{self.most_net_force:.3f} is usual here"
            )
        return doubts


_NOTHING = Expected()


def ask(
    engine: LabelSource, atoms: Atoms, *, index: int, expected: Expected = _NOTHING
) -> Labels | LabelFailure:
    """Compute a label, twice if its energy or net force is far from the expected one.

    Labels of a wrong shape or with a NaN are treated as failures.
    """
    first = _ask_with_remedies(engine, atoms, index=index)
    doubts = expected.doubts(first, atoms) if isinstance(first, Labels) else []
    if not isinstance(first, Labels) or not doubts:
        return first
    _LOG.warning("label %d: %s; asking again from scratch", index, " and ".join(doubts))
    second = _ask_with_remedies(engine, atoms, index=index, remedies=[FROM_SCRATCH])
    if not isinstance(second, Labels):
        return second
    second = replace(second, wall_s=first.wall_s + second.wall_s)
    doubts = expected.doubts(second, atoms)
    confirmed = not _differ(first.energy, second.energy, _SAME_EV, atoms)
    if confirmed or not _differ(second.energy, expected.energy, _UNBELIEVABLE_EV, atoms):
        if doubts:
            _LOG.warning("label %d: learned as it is, although %s", index, " and ".join(doubts))
        return second
    return LabelFailure(
        f"two answers to one structure, {first.energy:.3f} and {second.energy:.3f} eV, and the "
        f"model expects {expected.energy:.3f}",
        "the SCF converges to different states: fix the spin, or raise the electronic temperature",
    )


def unlabelled(step: int, failure: LabelFailure) -> RunError:
    """The error that ends a run after a failed label."""
    return RunError(
        f"step {step}: the engine gave no label: {failure.reason}. {failure.advice}; then resume "
        "the run"
    )


def _differ(one: float, other: float, bound_eV: float, atoms: Atoms) -> bool:
    """Whether two energies (eV) differ by more than a bound per atom; False for a NaN."""
    return bool(np.abs(one - other) > bound_eV * len(atoms))


def _ask_with_remedies(
    engine: LabelSource, atoms: Atoms, *, index: int, remedies: Sequence[str] = ()
) -> Labels | LabelFailure:
    """Compute a label, trying each remedy the engine proposes once."""
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

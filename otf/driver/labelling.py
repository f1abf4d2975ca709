"""Labels from the labels file if already computed, else from the engine, with its remedies.

If energy or forces are far from the model's prediction, the label is computed again from scratch:
self-consistency can converge to a wrong electronic state, but rarely twice from different starts.
So is one whose net force is far above that of the first labels. A net force alone is no fault:
grids, slabs and external fields have one, each its own. A label that cannot be true is kept apart
and not learned.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from ase import Atoms

from otf.driver.expected import Doubts, Expected
from otf.engines.asking import ask
from otf.engines.at_once import side_by_side
from otf.engines.failures import FROM_SCRATCH
from otf.engines.labels import Disbelieved, LabelFailure, Labels
from otf.engines.late import warned_when_late
from otf.engines.protocol import ForceCheck, LabelSource
from otf.errors import RunError
from otf.io.labels import QUARANTINE, StoredLabel

_LOG = logging.getLogger("otf.labels")

MOST_FAILURES = 3
"""Consecutive failures after which even a run that may continue without labels stops."""

_SAME_EV = 0.005  # per atom, between two calculations of the same state
_PROBE_A = 0.01  # largest displacement by which unexpected forces are checked
_CONFIRMED = 0.5  # of the work of unexpected forces, by which their energy may differ from it
_FIRST, _FEWEST = 5, 3  # labels that show the usual net force, and the fewest of them
_UNUSUAL = 5.0  # times the usual net force
_NEGLIGIBLE_NET_FORCE = 0.02  # eV/Angstrom per atom
_NOTABLE_NET_FORCE = 0.05
_LATE_S = 60.0  # before which no answer is late
_LATE_FIRST_S = 600.0  # the same for a first label, whose usual time is unknown


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

    def refusal(self, step: int, atoms: Atoms) -> str:
        """Why the label of exactly this geometry is not learned; empty if there is none."""
        ...

    def refuse(self, step: int, atoms: Atoms, labels: Labels, reason: str) -> None:
        """Store a label that is not learned apart from the others, with the reason."""
        ...


class Refused(NamedTuple):
    """A label that cannot be true, and why."""

    labels: Labels
    reason: str


class Wanted(NamedTuple):
    """A structure to label, its step, and what the model expects of the label."""

    atoms: Atoms
    step: int
    expected: Expected | None = None


_Answer = Labels | LabelFailure | Refused


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
    late_s
        Seconds before which no answer is late; by default 60, and 600 for the first one.
    """

    engine: LabelSource
    file: LabelStore
    needs_stress: bool = False
    subtracts_net_force: bool = False
    warns_of_net_force: bool = True
    late_s: float | None = None

    def check_forces(self, atoms: Atoms, *, index: int) -> ForceCheck | None:
        """Non-self-consistent forces from a learned density matrix; None if there is none."""
        bare = atoms.copy()
        bare.set_constraint()
        return self.engine.check_forces(bare, index=index)

    @property
    def at_once(self) -> int:
        """Number of labels that are computed at once."""
        return self.engine.at_once

    def label(
        self, atoms: Atoms, *, index: int, step: int, expected: Expected | None = None
    ) -> Labels | LabelFailure:
        """Label number ``index`` of the run, written to disk before it is returned.

        Parameters
        ----------
        expected
            What the model expects; None if there is none.
        """
        return self.labels([Wanted(atoms, step, expected)], index=index)[0]

    def labels(self, wanted: Sequence[Wanted], *, index: int) -> list[Labels | LabelFailure]:
        """Labels number ``index`` and following, computed at once, in their order.

        Failures have no number: a label after one is written with the next free number. What one
        label is checked against does not depend on the others.

        Raises
        ------
        EngineError
            If an engine raises it; labels that are complete are written before.
        """
        found = list(self._known(wanted, index))
        rest, raised = wanted[len(found) :], None
        for one, answer in zip(
            rest, side_by_side(self._tasks(rest, index + len(found))), strict=True
        ):
            if isinstance(answer, Exception):
                raised = raised or answer
            else:
                found.append(self._kept(one, answer))
        if raised is not None:
            raise raised
        return found

    def _known(self, wanted: Sequence[Wanted], index: int) -> Iterator[Labels | LabelFailure]:
        """The first labels, as far as they were computed by an earlier session."""
        for atoms, step, _ in wanted:
            stored = self.file.find(index, step, atoms)
            reason = "" if stored is not None else self.file.refusal(step, atoms)
            if stored is not None:
                _LOG.info("label %d, step %d: read from %s", index, step, self.file.path.name)
                index += 1
                yield stored
            elif reason:
                yield _disbelieved(reason)
            else:
                return

    def _tasks(self, wanted: Sequence[Wanted], index: int) -> list[Callable[[], _Answer]]:
        """What computes the labels, each to be called once, in any thread."""
        levels, most_net_force = self._levels(), self._most_net_force()
        model = threading.Lock()  # its energies are computed by one thread at a time

        def task(number: int, atoms: Atoms, expected: Expected | None) -> Callable[[], _Answer]:
            if expected is None:
                return lambda: ask(self.engine, atoms, index=number)
            energy_of = expected.energy_of

            def locked(other: Atoms) -> float:
                with model:
                    return energy_of(other)

            judged = replace(expected, most_net_force=most_net_force, energy_of=locked)
            return lambda: ask_checked(
                self.engine, atoms, index=number, expected=judged, levels=levels
            )

        return [
            self._with_warning(number, task(number, one.atoms, one.expected))
            for number, one in enumerate(wanted, index)
        ]

    def _kept(self, one: Wanted, answer: _Answer) -> Labels | LabelFailure:
        """An answer of the engine as it is learned, written to disk."""
        if isinstance(answer, Refused):
            self.file.refuse(one.step, one.atoms, answer.labels, answer.reason)
            return _disbelieved(answer.reason)
        if isinstance(answer, LabelFailure):
            return answer
        if self.needs_stress and answer.stress is None:
            return LabelFailure(
                "there is no stress in its label, and the model is to learn it",
                "use an engine that computes it, or leave out constant pressure and "
                "model.stress_noise_GPa",
            )
        if len(self.file) == 0 and self.warns_of_net_force:
            self._warn_of_net_force(answer)
        if self.subtracts_net_force:
            answer = answer.without_net_force()
        self.file.append(one.step, one.atoms, answer)
        return answer

    def _with_warning(self, index: int, task: Callable[[], _Answer]) -> Callable[[], _Answer]:
        """A task that warns while its answer is late."""
        longest_s = max((self.file[i].labels.wall_s for i in range(len(self.file))), default=0.0)
        after_s = self.late_s
        if after_s is None:
            after_s = _LATE_S if len(self.file) else _LATE_FIRST_S

        def warned() -> _Answer:
            with warned_when_late(index, longest_s=longest_s, after_s=after_s):
                return task()

        return warned

    def _levels(self) -> list[float]:
        """Energies of other electronic states above that of the model, eV, from earlier labels."""
        labels = [self.file[i].labels for i in range(len(self.file))]
        return [known.level for known in labels if known.level]

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


def ask_checked(
    engine: LabelSource,
    atoms: Atoms,
    *,
    index: int,
    expected: Expected,
    levels: Sequence[float] = (),
) -> Labels | LabelFailure | Refused:
    """Compute a label; again from scratch if it is far from what is expected.

    A label that is reproduced is checked by a third one, of a slightly changed structure: forces
    that are not the derivatives of the energy are refused. Where only the energy is off, it is
    that of another electronic state.

    Parameters
    ----------
    levels
        Energies of known other states above that of the model, eV.
    """
    first = ask(engine, atoms, index=index)
    if not isinstance(first, Labels) or not any(expected.doubts(first)):
        return first
    if _only_energy(expected.doubts(first)):
        above = first.energy - expected.energy
        if any(abs(above - level) < expected.energy_bound for level in levels):
            return replace(first, level=above)
    _LOG.warning("label %d: %s; asking again from scratch", index, expected.doubts(first))
    second = ask(engine, atoms, index=index, remedies=[FROM_SCRATCH])
    if not isinstance(second, Labels):
        return second
    second = replace(second, wall_s=first.wall_s + second.wall_s)
    doubts = expected.doubts(second)
    if not any(doubts):
        return second
    if abs(first.energy - second.energy) > _SAME_EV * len(atoms):
        return LabelFailure(
            f"two answers to one structure, {first.energy:.3f} and {second.energy:.3f} eV, and the "
            f"model expects {expected.energy:.3f}",
            "the SCF converges to different states: fix the spin, or raise the electronic "
            "temperature",
        )
    if doubts.forces:
        return _judged(engine, atoms, second, index=index, expected=expected)
    if doubts.energy:
        _LOG.warning(
            "label %d: %s, and the forces agree: another electronic state; its energy is not "
            "learned",
            index,
            doubts.energy,
        )
        return replace(second, level=second.energy - expected.energy)
    _LOG.warning("label %d: learned as it is, although %s", index, doubts)
    return second


def _disbelieved(reason: str) -> Disbelieved:
    return Disbelieved(
        f"{reason}; it is kept in {QUARANTINE}",
        "look at the engine's output for this structure",
    )


def _only_energy(doubts: Doubts) -> bool:
    return bool(doubts.energy) and not doubts.forces and not doubts.net_force


def _judged(
    engine: LabelSource, atoms: Atoms, labels: Labels, *, index: int, expected: Expected
) -> Labels | LabelFailure | Refused:
    """A label whose forces are unexpected: learned if they are the derivatives of its energy.

    All atoms are moved along the difference between the forces and the expected ones. The engine's
    energy then changes by its work more than the model's, if its forces are right.
    """
    off = expected.deviation(labels)
    move = _PROBE_A * off / float(np.abs(off).max())
    moved = atoms.copy()
    moved.set_constraint()
    moved.positions += move
    other = ask(engine, moved, index=index, remedies=[FROM_SCRATCH])
    if not isinstance(other, Labels):
        return other
    labels = replace(labels, wall_s=labels.wall_s + other.wall_s)
    by_engine = labels.energy - other.energy
    by_model = expected.energy - expected.energy_of(moved)
    confirmed = (by_engine - by_model) / float(np.vdot(off, move))
    doubts = expected.doubts(labels)
    if abs(confirmed - 1.0) < _CONFIRMED:
        _LOG.warning("label %d: learned as it is, although %s", index, doubts)
        return labels
    reason = (
        f"{doubts.forces}, and its energy changes along the difference as the model expects: the "
        "forces are not the derivatives of the energy"
    )
    if abs(confirmed) >= _CONFIRMED:
        reason = (
            f"{doubts.forces}, and its energy changes along the difference neither by the work of "
            "these forces nor as the model expects"
        )
    return Refused(labels, reason)


def unlabelled(step: int, failure: LabelFailure) -> RunError:
    """The error that ends a run after a failed label."""
    return RunError(
        f"step {step}: the engine gave no label: {failure.reason}. {failure.advice}; then resume "
        "the run"
    )

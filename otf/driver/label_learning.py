"""Labels of the trajectory: computed, compared with the model, learned, followed by the policy."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ase import Atoms

from otf.driver.adaptive_policy import unreachable
from otf.driver.consistency import ForceEnergyCheck, contradictory
from otf.driver.expected import expected_by
from otf.driver.guard import Guard
from otf.driver.labelling import MOST_FAILURES, Wanted, unlabelled
from otf.driver.measure import Measured, label_record, measure
from otf.driver.policy import UNTRIGGERED, LabelError, PolicyState, Reason, expectation
from otf.driver.records import LabelRecord, Parts
from otf.driver.residual_correction import ResidualCorrection
from otf.driver.segment import SegmentIntegrator
from otf.engines.labels import Disbelieved, LabelFailure, Labels
from otf.errors import RunError

_LOG = logging.getLogger("otf.loop")


class DisbelievedError(Exception):
    """The engine's label of a structure is not believed, so it cannot drive the dynamics there."""


class Place(NamedTuple):
    """A structure of the trajectory to label; for an audit, see :class:`~.records.WaitingAudit`."""

    atoms: Atoms
    step: int
    reason: Reason
    length: int = 0
    stands_for: float = 0.0


class LabelLearning:
    """Takes labels of a trajectory, learns them, and keeps their records and the policy's state.

    Parameters
    ----------
    motion
        Holds the present step and energy account.
    guard
        Is shown every label.

    Attributes
    ----------
    policy
        State of the policy.
    history
        Records of all labels.
    failures
        Consecutive labels that failed.
    """

    def __init__(self, parts: Parts, motion: SegmentIntegrator, guard: Guard) -> None:
        self._parts = parts
        self._motion = motion
        self._guard = guard
        self._trainer = parts.trainer
        self._atoms: Atoms = parts.ensemble.atoms
        self._check, self._doubted = ForceEnergyCheck(parts.label_noise), False
        self.policy = PolicyState()
        self.history: tuple[LabelRecord, ...] = ()
        self.failures = 0

    def here(self, reason: Reason) -> Place:
        """The present structure."""
        return Place(self._atoms, self._motion.step, reason)

    def _labels(self, places: Sequence[Place]) -> list[Labels | LabelFailure]:
        """The next labels, computed at once."""
        noise = self._parts.label_noise
        wanted = [
            Wanted(p.atoms, p.step, expected_by(self._trainer, p.atoms, noise=noise))
            for p in places
        ]
        return self._parts.labeller.labels(wanted, index=self._trainer.n_labels)

    def learn_all(
        self, places: Sequence[Place], correction: ResidualCorrection | None
    ) -> list[LabelRecord | None]:
        """Label structures at once and learn the labels one by one; None where the engine fails.

        All errors are those of the model before.
        """
        measured = list[tuple[Place, Labels, Measured] | None]()
        for place, labels in zip(places, self._labels(places), strict=True):
            if isinstance(labels, LabelFailure):
                self._handle_failure(labels)
                measured.append(None)
            else:
                self.failures = 0
                measured.append((place, labels, self._measured(place, labels, correction)))
        return [None if found is None else self._learn(*found) for found in measured]

    def _measured(
        self, place: Place, labels: Labels, correction: ResidualCorrection | None
    ) -> Measured:
        added = None if correction is None else correction.at(place.step)
        return measure(self._trainer, place.atoms, labels, added=added)

    def needed(self) -> Labels:
        """The label of the present structure, without which the run cannot continue.

        Raises
        ------
        DisbelievedError, RunError
            If it is not believed, or there is none.
        """
        return self.needed_at(self._motion.step)

    def needed_at(self, step: int) -> Labels:
        """The same with the number of its step."""
        (labels,) = self._labels([Place(self._atoms, step, "engine")])
        if isinstance(labels, Disbelieved):
            self._handle_failure(labels)
            raise DisbelievedError
        if isinstance(labels, LabelFailure):
            raise unlabelled(self._motion.step, labels)
        self.failures = 0
        return labels

    def learn_here(self, labels: Labels, reason: Reason) -> LabelRecord:
        """Learn the label of the present structure."""
        place = self.here(reason)
        return self._learn(place, labels, self._measured(place, labels, None))

    def _learn(self, place: Place, labels: Labels, measured: Measured) -> LabelRecord:
        """Learn a label, and update the policy unless others follow in the same segment."""
        atoms, step, reason, elapsed, stands_for = place
        index, total_energy, is_here = self._trainer.n_labels, float("nan"), atoms is self._atoms
        if reason != "audit":
            # The latest label can lie ahead: the engine took over, or a replay was cut short.
            elapsed = step - max((r.step for r in self.history if r.step <= step), default=step)
        if is_here:
            kinetic = float(atoms.get_kinetic_energy())
            total_energy = kinetic + labels.energy - labels.level - self._motion.ledger.given
        self._guard.see(atoms)
        self._check_engine(self._check.add(atoms, labels))
        self._trainer.learn(
            atoms,
            labels,
            time_fs=step * self._parts.timestep_fs,
            audited=reason in UNTRIGGERED,
        )
        record = label_record(
            self._trainer,
            labels,
            measured,
            index=index,
            step=step,
            reason=reason,
            elapsed=elapsed,
            total_energy=total_energy,
        )
        record = replace(record, stands_for=stands_for)
        self.history = (*self.history, record)
        if not is_here and reason != "audit":
            return record
        forecast = self._trainer.error_forecast() if self._parts.residual == "forecast" else None
        before = self.policy
        self.policy = self._parts.policy.after_label(
            self.policy,
            LabelError(
                step,
                record.force_mae,
                elapsed,
                reason,
                n_labels=index + 1,
                worst=record.force_max,
                floor=self._trainer.floor,
                noise=self._parts.label_noise,
                saturated=self._trainer.saturated,
                forecast=expectation(forecast, elapsed),
            ),
        )
        self._notice_unreachable(before)
        return record

    def _check_engine(self, contradiction: str | None) -> None:
        """Stop a run, or warn once, whose engine contradicts itself."""
        if contradiction is None or self._doubted:
            return
        self._doubted = True
        self._stop_or_warn(contradictory(contradiction), stop=self._parts.stop_if_contradictory)

    def _notice_unreachable(self, before: PolicyState) -> None:
        """Say once that the target cannot be reached, and stop if so configured."""
        if self.policy.accepted and not before.accepted:
            why = unreachable(self.policy, self._parts.label_noise)
            self._stop_or_warn(why, stop=self._parts.stop_if_unreachable)

    def _stop_or_warn(self, why: str, *, stop: bool) -> None:
        if stop:
            raise RunError(f"step {self._motion.step}: {why}")
        _LOG.warning("step %d: %s", self._motion.step, why)

    def _handle_failure(self, failure: LabelFailure) -> None:
        """Continue without a label if configured, up to a number of consecutive failures.

        A label that is not believed does not need to be configured.
        """
        self.failures += 1
        step, goes_on = self._motion.step, self._parts.continue_on_failure
        if self.failures >= MOST_FAILURES or not (goes_on or isinstance(failure, Disbelieved)):
            raise unlabelled(step, failure)
        _LOG.warning(
            "step %d: no label (%s); going on with the model as it is", step, failure.reason
        )

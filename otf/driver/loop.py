"""The loop: predict, label, learn, replay, commit.

A segment is predicted by the model up to the next label. The label is learned, and the segment is
integrated once more from its start with the new model and the same random numbers; only this
second integration is committed. The consumer of the generator may stop at any record: the last
:class:`Segment` holds everything needed to continue.
"""

import logging
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import NamedTuple

from ase import Atoms

from otf.driver.adaptive_policy import unreachable
from otf.driver.consistency import ForceEnergyCheck, contradictory
from otf.driver.expected import expected_by
from otf.driver.guard import Guard
from otf.driver.labelling import MOST_FAILURES, unlabelled
from otf.driver.measure import label_record, measure, relearn
from otf.driver.policy import (
    UNTRIGGERED,
    LabelError,
    PolicyState,
    Reason,
    drawn_audit,
    expectation,
    planned,
)
from otf.driver.records import Activity, LabelRecord, Parts, Record, RunState, Segment
from otf.driver.residual_correction import ResidualCorrection
from otf.driver.segment import (
    Driving,
    EngineForces,
    Integrated,
    ModelForces,
    Position,
    SegmentIntegrator,
)
from otf.engines.labels import Disbelieved, LabelFailure, Labels
from otf.engines.sanity import LARGEST_STEP_A
from otf.errors import RunError
from otf.io.committed import ENGINE, MODEL
from otf.io.labels import same_geometry

_LOG = logging.getLogger("otf.loop")
_PAST = 2.0  # steps of the model past a structure without a believable label


def drive(parts: Parts, state: RunState | None = None) -> Iterator[Record]:
    """Run to the end, from the start or from a checkpoint.

    Raises
    ------
    RunError
        If the engine fails permanently or the dynamics diverges. Segments yielded before remain
        valid.
    """
    loop = _Loop(parts)
    if state is None:
        parts.trainer.begin()
        yield from loop.begin()
    else:
        loop.restore(state)
    while loop.motion.step < parts.ensemble.steps:
        if loop.policy.by_engine:
            yield from loop.engine_step()
        else:
            yield from loop.model_segment()


class _DisbelievedError(Exception):
    """The engine's label of a structure is not believed, so it cannot drive the dynamics there."""


class _Audited(NamedTuple):
    """A step of a committed segment, the length of the segment, and the steps it stands for."""

    atoms: Atoms
    step: int
    length: int
    stands_for: float


class _Loop:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.atoms: Atoms = parts.ensemble.atoms
        self.trainer = parts.trainer
        self.motion = SegmentIntegrator(
            parts.ensemble,
            timestep_fs=parts.timestep_fs,
            frame_every=parts.frame_every,
            has_pressure=parts.trainer.settings.stress_noise is not None,
        )
        self.policy = PolicyState()
        self.history: tuple[LabelRecord, ...] = ()
        self.failures = 0
        self.guard = Guard(parts)
        self.check, self.doubted = ForceEnergyCheck(parts.label_noise), False

    def restore(self, state: RunState) -> None:
        for label in relearn(self.parts, state, fs_per_step=self.parts.timestep_fs):
            self.guard.see(label.atoms)
        self.parts.ensemble.restore(state.dynamics)
        self.motion.step, self.motion.ledger = state.step, state.ledger
        self.policy, self.history, self.failures = state.policy, state.history, state.failures
        self.guard.force_checks = state.force_checks

    def state(self) -> RunState:
        now = self.motion.position
        return RunState(
            now.step,
            now.dynamics,
            self.policy,
            self.trainer.capture(),
            self.history,
            self.failures,
            now.ledger,
            force_checks=self.guard.force_checks,
        )

    def begin(self) -> Iterator[Record]:
        """Label the starting structure."""
        yield Activity(0, "label")
        labels = self._needed_label()
        self.motion.ledger = self.motion.ledger.switched(labels.energy)
        record = self._learn(labels, "start")
        frames = self.motion.frame(labels, source=ENGINE, labels=self.trainer.n_labels)
        yield Segment(frames, record, self.state())

    def engine_step(self) -> Iterator[Record]:
        """One step on the engine's forces, whose label is learned."""
        latest = self.parts.labeller.file[self.trainer.n_labels - 1]
        if not same_geometry(latest.atoms, self.atoms):
            yield from self._hand_back()
            if not self.policy.by_engine:
                return
            latest = self.parts.labeller.file[self.trainer.n_labels - 1]
        yield Activity(self.motion.step, "label")
        forces, start = EngineForces(latest.labels, self._needed_label_at), self.motion.position
        try:
            step = yield from self.motion.integrate(
                start, 1, forces, keep=(ENGINE, self.trainer.n_labels + 1)
            )
        except _DisbelievedError:
            self._pass_to_model(start)
            return
        if step.reason is not None:
            raise RunError(
                f"step {self.motion.step}: an atom moves more than {LARGEST_STEP_A} A in one step "
                "on the forces of the engine; start anew with a smaller timestep_fs"
            )
        record = self._learn(forces.latest, "engine" if self._left_start() else "start")
        yield Segment(step.frames, record, self.state())

    def _hand_back(self) -> Iterator[Record]:
        """Label the present structure before the engine drives the dynamics again."""
        yield Activity(self.motion.step, "label")
        start = self.motion.position
        try:
            yield Segment([], self._learn(self._needed_label(), "engine"), self.state())
        except _DisbelievedError:
            self._pass_to_model(start)

    def _pass_to_model(self, start: Position) -> None:
        """Go on from here on the model, past a structure without a believable label."""
        self.motion.go_to(start)
        self.policy = replace(self.policy, gap=_PAST, by_engine=False)

    def _left_start(self) -> bool:
        return any(r.reason != "start" for r in self.history)

    def model_segment(self) -> Iterator[Record]:
        """Predict to the next label, learn it, replay, commit."""
        start, n_labels = self.motion.position, self.trainer.n_labels
        length, reason = planned(self.policy, rest=self.parts.ensemble.rest(start.step))
        forces = self._model_forces(n_labels)
        predicted = yield from self.motion.integrate(
            start, length, forces, phase="predict", alarm=self._alarm
        )
        if predicted.reason == "explosion":
            half = max(1, predicted.length // 2)
            _LOG.warning(
                "step %d: the model's dynamics diverged; labelling at step %d",
                start.step + predicted.length,
                start.step + half,
            )
            # The label is taken where the structure is still physical.
            predicted = yield from self.motion.integrate(start, half, forces, phase="predict")
            if predicted.reason is not None:
                yield self._given_up(start)
                return
            reason = "explosion"
        elif predicted.reason is not None:
            reason = predicted.reason
        yield Activity(self.motion.step, "label")
        labels, record, drawn = self.label(self.motion.step), None, None
        if isinstance(labels, LabelFailure):
            self._handle_failure(labels)
        else:
            self.failures = 0
            record = self._learn(labels, reason, correction=forces.correction)
            drawn = drawn_audit(
                self.parts.policy,
                self.policy,
                length=predicted.length,
                n_labels=self.trainer.n_labels,
                seed=self.parts.seed,
            )
        forces = self._model_forces(n_labels)
        committed = yield from self._replay(
            start, predicted.length, forces, copy_at=None if drawn is None else drawn.step
        )
        if committed.reason is not None:
            yield self._given_up(start, record)
            return
        audit = None
        if drawn is not None and committed.passed is not None:
            place = _Audited(
                committed.passed, start.step + drawn.step, predicted.length, drawn.stands_for
            )
            yield Activity(place.step, "label")
            audit = self._audit(place, forces.correction)
        yield Segment(committed.frames, record, self.state(), audit)

    def _replay(
        self, start: Position, length: int, forces: ModelForces, *, copy_at: int | None
    ) -> Generator[Activity, None, Integrated]:
        """Integrate a segment with the new model, as far as its predicted error allows.

        A model that learned the end of a segment can be worse within it.
        """
        keep, every = (MODEL, self.trainer.n_labels), self.parts.policy.guard_every

        def doubt(done: int, _driving: Driving) -> Reason | None:
            return self.guard.doubt(self.policy, self.motion.step, done, length)

        replayed = yield from self.motion.integrate(
            start, length, forces, phase="replay", alarm=doubt, keep=keep, copy_at=copy_at
        )
        if replayed.reason is None or replayed.reason == "explosion":
            return replayed
        trusted = replayed.length - every
        # The next label is taken where the replay was in doubt.
        self.policy = replace(self.policy, gap=min(self.policy.gap, float(every)))
        return (
            yield from self.motion.integrate(start, trusted, forces, keep=keep, copy_at=copy_at)
        )

    def _audit(self, place: "_Audited", correction: ResidualCorrection) -> LabelRecord | None:
        """Label a step of a committed segment; None if the engine fails."""
        labels = self.label(place.step, place.atoms)
        if isinstance(labels, LabelFailure):
            self._handle_failure(labels)
            return None
        return self._learn(labels, "audit", correction=correction, place=place)

    def _given_up(self, start: Position, record: LabelRecord | None = None) -> Segment:
        """No frames: the engine takes over at the start of a segment that the model cannot do."""
        _LOG.warning("step %d: the model's dynamics diverges; the engine takes over", start.step)
        self.motion.go_to(start)
        self.policy = replace(self.policy, gap=1.0, by_engine=True)
        return Segment([], record, self.state())

    def _model_forces(self, n_labels: int) -> ModelForces:
        """Forces of the present model, with the residual forecast from the first labels."""
        correction = ResidualCorrection(None, 0, 1)
        if self.parts.residual == "propagate":
            before = [r for r in self.history if r.index < n_labels]
            labelled = [r for r in before if r.reason != "audit"]
            forecast = self.trainer.residual_forecast(n_labels)
            correction = ResidualCorrection(
                forecast, labelled[-1].step, max(1, labelled[-1].elapsed)
            )
        return ModelForces(self.trainer, correction)

    def _alarm(self, done: int, driving: Driving) -> Reason | None:
        """Reason to take a label immediately, or None."""
        return self.guard.alarm(self.policy, self.motion.step, done, driving.forces)

    def label(self, step: int, atoms: Atoms | None = None) -> Labels | LabelFailure:
        """The next label, of the given or the present structure at ``step``."""
        index, atoms = self.trainer.n_labels, self.atoms if atoms is None else atoms
        expected = expected_by(self.trainer, atoms, noise=self.parts.label_noise)
        return self.parts.labeller.label(atoms, index=index, step=step, expected=expected)

    def _needed_label(self) -> Labels:
        """A label that the run cannot continue without."""
        return self._needed_label_at(self.motion.step)

    def _needed_label_at(self, step: int) -> Labels:
        labels = self.label(step)
        if isinstance(labels, Disbelieved):
            self._handle_failure(labels)
            raise _DisbelievedError
        if isinstance(labels, LabelFailure):
            raise unlabelled(self.motion.step, labels)
        self.failures = 0
        return labels

    def _learn(
        self,
        labels: Labels,
        reason: Reason,
        *,
        correction: ResidualCorrection | None = None,
        place: "_Audited | None" = None,
    ) -> LabelRecord:
        """Measure the error of the forces at a label, learn it, and update the policy.

        Without a place the label is that of the present structure.
        """
        index = self.trainer.n_labels
        if place is not None:
            atoms, step, elapsed, stands_for = place
            total_energy = float("nan")
        else:
            atoms, step, stands_for = self.atoms, self.motion.step, 0.0
            # The latest label can lie ahead: the engine took over, or a replay was cut short.
            elapsed = step - max((r.step for r in self.history if r.step <= step), default=step)
            kinetic = float(atoms.get_kinetic_energy())
            total_energy = kinetic + labels.energy - labels.level - self.motion.ledger.given
        added = None if correction is None else correction.at(step)
        measured = measure(self.trainer, atoms, labels, added=added)
        self.guard.see(atoms)
        self._check_engine(self.check.add(atoms, labels))
        self.trainer.learn(
            atoms,
            labels,
            time_fs=step * self.parts.timestep_fs,
            audited=reason in UNTRIGGERED,
        )
        record = label_record(
            self.trainer,
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
        forecast = self.trainer.error_forecast() if self.parts.residual == "forecast" else None
        before = self.policy
        self.policy = self.parts.policy.after_label(
            self.policy,
            LabelError(
                step,
                record.force_mae,
                elapsed,
                reason,
                n_labels=index + 1,
                worst=record.force_max,
                floor=self.trainer.floor,
                noise=self.parts.label_noise,
                saturated=self.trainer.saturated,
                forecast=expectation(forecast, elapsed),
            ),
        )
        self._notice_unreachable(before)
        return record

    def _check_engine(self, contradiction: str | None) -> None:
        """Stop a run, or warn once, whose engine contradicts itself."""
        if contradiction is None or self.doubted:
            return
        self.doubted = True
        self._stop_or_warn(contradictory(contradiction), stop=self.parts.stop_if_contradictory)

    def _notice_unreachable(self, before: PolicyState) -> None:
        """Say once that the target cannot be reached, and stop if so configured."""
        if self.policy.accepted and not before.accepted:
            why = unreachable(self.policy, self.parts.label_noise)
            self._stop_or_warn(why, stop=self.parts.stop_if_unreachable)

    def _stop_or_warn(self, why: str, *, stop: bool) -> None:
        if stop:
            raise RunError(f"step {self.motion.step}: {why}")
        _LOG.warning("step %d: %s", self.motion.step, why)

    def _handle_failure(self, failure: LabelFailure) -> None:
        """Continue without a label if configured, up to a number of consecutive failures.

        A label that is not believed does not need to be configured.
        """
        self.failures += 1
        step, goes_on = self.motion.step, self.parts.continue_on_failure
        if self.failures >= MOST_FAILURES or not (goes_on or isinstance(failure, Disbelieved)):
            raise unlabelled(step, failure)
        _LOG.warning(
            "step %d: no label (%s); going on with the model as it is", step, failure.reason
        )

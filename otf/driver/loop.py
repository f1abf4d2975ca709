"""The loop: predict, label, learn, replay, commit.

A segment is predicted by the model up to the next label. The label is learned, and the segment is
integrated once more from its start with the new model and the same random numbers; only this
second integration is committed. The consumer of the generator may stop at any record: the last
:class:`Segment` holds everything needed to continue.

Where several labels are computed at once, a segment has as many gaps, each with a label at its end,
and an audit of a committed segment waits for the labels of the next one.
"""

import logging
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import replace

from ase import Atoms

from otf.arrays import Floats
from otf.driver.guard import Guard
from otf.driver.label_learning import DisbelievedError, LabelLearning, Place
from otf.driver.measure import relearn
from otf.driver.policy import Plan, Reason, drawn_audit, planned
from otf.driver.records import (
    Activity,
    LabelRecord,
    Parts,
    Record,
    RunState,
    Segment,
    WaitingAudit,
)
from otf.driver.residual_correction import ResidualCorrection
from otf.driver.segment import (
    Driving,
    EngineForces,
    Integrated,
    ModelForces,
    Position,
    SegmentIntegrator,
)
from otf.engines.sanity import LARGEST_STEP_A
from otf.errors import RunError
from otf.io.committed import ENGINE, MODEL, Frame
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
        if loop.learning.policy.by_engine:
            yield from loop.engine_step()
        else:
            yield from loop.model_segment()
    if loop.waiting is not None:
        yield from loop.last_audit()


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
        self.guard = Guard(parts)
        self.learning = LabelLearning(parts, self.motion, self.guard)
        self.waiting: WaitingAudit | None = None

    def restore(self, state: RunState) -> None:
        for label in relearn(self.parts, state, fs_per_step=self.parts.timestep_fs):
            self.guard.see(label.atoms)
        self.parts.ensemble.restore(state.dynamics)
        self.motion.step, self.motion.ledger = state.step, state.ledger
        learning = self.learning
        learning.policy, learning.history = state.policy, state.history
        learning.failures = state.failures
        self.guard.force_checks, self.waiting = state.force_checks, state.waiting

    def state(self) -> RunState:
        now, learning = self.motion.position, self.learning
        return RunState(
            now.step,
            now.dynamics,
            learning.policy,
            self.trainer.capture(),
            learning.history,
            learning.failures,
            now.ledger,
            force_checks=self.guard.force_checks,
            waiting=self.waiting,
        )

    def begin(self) -> Iterator[Record]:
        """Label the starting structure."""
        yield Activity(0, "label")
        labels = self.learning.needed()
        self.motion.ledger = self.motion.ledger.switched(labels.energy)
        record = self.learning.learn_here(labels, "start")
        frames = self.motion.frame(labels, source=ENGINE, labels=self.trainer.n_labels)
        yield Segment(frames, record, self.state())

    def engine_step(self) -> Iterator[Record]:
        """One step on the engine's forces, whose label is learned."""
        if self.waiting is not None:
            yield from self.last_audit()  # which may change the policy
            return
        latest = self.parts.labeller.file[self.trainer.n_labels - 1]
        if not same_geometry(latest.atoms, self.atoms):
            yield from self._hand_back()
            policy = self.learning.policy
            if not policy.by_engine and policy.stuck_at != self.motion.step:
                return
            latest = self.parts.labeller.file[self.trainer.n_labels - 1]
        yield Activity(self.motion.step, "label")
        forces, start = EngineForces(latest.labels, self.learning.needed_at), self.motion.position
        try:
            step = yield from self.motion.integrate(
                start, 1, forces, keep=(ENGINE, self.trainer.n_labels + 1)
            )
        except DisbelievedError:
            self._pass_to_model(start)
            return
        if step.reason is not None:
            raise RunError(
                f"step {self.motion.step}: an atom moves more than {LARGEST_STEP_A} A in one step "
                "on the forces of the engine; start anew with a smaller timestep_fs"
            )
        reason: Reason = "engine" if self._left_start() else "start"
        record = self.learning.learn_here(forces.latest, reason)
        yield Segment(step.frames, record, self.state())

    def _hand_back(self) -> Iterator[Record]:
        """Label the present structure before the engine drives the dynamics again."""
        yield Activity(self.motion.step, "label")
        start = self.motion.position
        try:
            record = self.learning.learn_here(self.learning.needed(), "engine")
            yield Segment([], record, self.state())
        except DisbelievedError:
            self._pass_to_model(start)

    def _pass_to_model(self, start: Position) -> None:
        """Go on from here on the model, past a structure without a believable label."""
        self.motion.go_to(start)
        self.learning.policy = replace(
            self.learning.policy, gap=_PAST, by_engine=False, stuck_at=-1
        )

    def _left_start(self) -> bool:
        return any(r.reason != "start" for r in self.learning.history)

    def model_segment(self) -> Iterator[Record]:
        """Predict to the next labels, learn them, replay, commit."""
        start, n_labels = self.motion.position, self.trainer.n_labels
        plan = planned(
            self.learning.policy,
            rest=self.parts.ensemble.rest(start.step),
            at_once=self.parts.labeller.at_once - len(self._waiting()),
        )
        forces = self._model_forces(n_labels)
        predicted, reason = yield from self._predict(start, plan, forces)
        if predicted.reason == "explosion":
            yield self._given_up(start, predicted.reason)
            return
        yield Activity(self.motion.step, "label")
        places = [*self._waiting(), *self._passed(start, predicted), self.learning.here(reason)]
        end = self.atoms.get_positions()
        *others, record = self.learning.learn_all(places, forces.correction)
        self.waiting, drawn = None, None
        if record is not None:
            drawn = drawn_audit(
                self.parts.policy,
                self.learning.policy,
                length=predicted.length,
                n_labels=self.trainer.n_labels,
                seed=self.parts.seed,
            )
        forces = self._model_forces(n_labels)
        committed = yield from self._replay(
            start,
            predicted.length,
            forces,
            labelled=end,
            copy_at=() if drawn is None else (drawn.step,),
        )
        if committed.reason is not None:
            yield self._given_up(start, committed.reason, [*others, record])
            return
        if drawn is not None and drawn.step in committed.passed:
            atoms = committed.passed[drawn.step]
            self.waiting = WaitingAudit(
                atoms.positions,
                atoms.cell.array,
                start.step + drawn.step,
                predicted.length,
                drawn.stands_for,
            )
            if self.parts.labeller.at_once == 1:
                yield Activity(self.waiting.step, "label")
                others += self.learning.learn_all(self._waiting(), forces.correction)
                self.waiting = None
        yield self._segment(committed.frames, record, others)

    def _predict(
        self, start: Position, plan: Plan, forces: ModelForces
    ) -> Generator[Activity, None, tuple[Integrated, Reason]]:
        """Integrate to the next labels, and why there; half as far if the dynamics diverges."""
        *earlier, length = plan.ends
        self.guard.begin(start.dynamics.positions)
        predicted = yield from self.motion.integrate(
            start, length, forces, phase="predict", alarm=self._alarm, copy_at=earlier
        )
        if predicted.reason != "explosion":
            return predicted, predicted.reason or plan.reason
        half = max(1, predicted.length // 2)
        _LOG.warning(
            "step %d: the model's dynamics diverged; labelling at step %d",
            start.step + predicted.length,
            start.step + half,
        )
        # The label is taken where the structure is still physical.
        predicted = yield from self.motion.integrate(
            start, half, forces, phase="predict", copy_at=earlier
        )
        return predicted, "explosion"

    def _replay(
        self,
        start: Position,
        length: int,
        forces: ModelForces,
        *,
        labelled: Floats,
        copy_at: Collection[int],
    ) -> Generator[Activity, None, Integrated]:
        """Integrate a segment with the new model, as far as its predicted error allows.

        A model that learned the end of a segment can be worse within it, and lead elsewhere: to
        other positions (N, 3) than those ``labelled``.
        """
        keep, every = (MODEL, self.trainer.n_labels), self.parts.policy.guard_every
        self.guard.begin(start.dynamics.positions)

        def doubt(done: int, _driving: Driving) -> Reason | None:
            return self.guard.doubt(self.learning.policy, self.motion.step, done, length)

        replayed = yield from self.motion.integrate(
            start, length, forces, phase="replay", alarm=doubt, keep=keep, copy_at=copy_at
        )
        policy = self.learning.policy
        if replayed.reason == "explosion":
            return replayed
        if replayed.reason is None and not self.guard.doubts_end(
            policy, self.motion.step, labelled
        ):
            return replayed
        # The next label is taken where the replay was in doubt.
        self.learning.policy = replace(policy, gap=min(policy.gap, float(every)))
        if not self.guard.trusted:
            return replace(replayed, reason="guard")
        return (
            yield from self.motion.integrate(
                start, self.guard.trusted, forces, keep=keep, copy_at=copy_at
            )
        )

    def last_audit(self) -> Iterator[Record]:
        """Label the committed structure that waits for the next labels."""
        assert self.waiting is not None
        yield Activity(self.waiting.step, "label")
        records, self.waiting = self.learning.learn_all(self._waiting(), None), None
        yield self._segment([], None, records)

    def _given_up(
        self, start: Position, reason: Reason, records: Sequence[LabelRecord | None] = (None,)
    ) -> Segment:
        """No frames: the engine takes over at the start of a segment that the model cannot do."""
        why = "the model's dynamics diverges" if reason == "explosion" else "no step is trusted"
        _LOG.warning("step %d: %s; the engine takes over", start.step, why)
        self.motion.go_to(start)
        self.learning.policy = replace(
            self.learning.policy, gap=1.0, by_engine=True, stuck_at=start.step
        )
        *others, record = records
        return self._segment([], record, others)

    def _segment(
        self, frames: list[Frame], record: LabelRecord | None, others: Sequence[LabelRecord | None]
    ) -> Segment:
        """What is committed now."""
        return Segment(frames, record, self.state(), tuple(r for r in others if r is not None))

    def _model_forces(self, n_labels: int) -> ModelForces:
        """Forces of the present model, with the residual forecast from the first labels."""
        correction = ResidualCorrection(None, 0, 1)
        if self.parts.residual == "propagate":
            before = [r for r in self.learning.history if r.index < n_labels]
            labelled = [r for r in before if r.reason != "audit"]
            forecast = self.trainer.residual_forecast(n_labels)
            correction = ResidualCorrection(
                forecast, labelled[-1].step, max(1, labelled[-1].elapsed)
            )
        return ModelForces(self.trainer, correction)

    def _alarm(self, done: int, driving: Driving) -> Reason | None:
        """Reason to take a label immediately, or None."""
        return self.guard.alarm(self.learning.policy, self.motion.step, done, driving.forces)

    def _waiting(self) -> list[Place]:
        """The audit that waits, if there is one."""
        found = self.waiting
        if found is None:
            return []
        atoms = self.atoms.copy()
        atoms.set_cell(found.cell)
        atoms.positions = found.positions
        return [Place(atoms, found.step, "audit", found.length, found.stands_for)]

    def _passed(self, start: Position, predicted: Integrated) -> list[Place]:
        """Ends of earlier gaps of a segment, without one that is close to its end."""
        last = predicted.length - 0.5 * self.learning.policy.gap
        return [
            Place(atoms, start.step + done, "scheduled")
            for done, atoms in predicted.passed.items()
            if done <= last
        ]

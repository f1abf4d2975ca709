"""The loop: predict, label, learn, replay, commit.

A segment is predicted by the model up to the next label. The label is learned, and the segment is
integrated once more from its start with the new model and the same random numbers; only this
second passage is committed. Whoever consumes the generator may stop at any record: the last
:class:`Segment` holds all it takes to go on.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.driver.labelling import MOST_FAILURES, SENSIBLE, unlabelled
from otf.driver.measure import measure, relearn
from otf.driver.policy import (
    UNTRIGGERED,
    PolicyState,
    Reason,
    expectation,
    planned,
)
from otf.driver.records import Activity, ForceChecks, LabelRecord, Parts, Record, RunState, Segment
from otf.driver.residual_correction import Correction
from otf.dynamics.ensembles import DynamicsState
from otf.dynamics.integrators import Acting
from otf.dynamics.ledger import Ledger
from otf.engines.labels import LabelFailure, Labels
from otf.engines.sanity import LARGEST_STEP_A, blown_up
from otf.errors import RunError
from otf.io.committed import ENGINE, MODEL, Frame
from otf.io.labels import same_geometry
from otf.model.bond_graph import BondGraph
from otf.model.tensor_energy import Prediction
from otf.units import GPA

_LOG = logging.getLogger("otf.loop")


def drive(parts: Parts, state: RunState | None = None) -> Iterator[Record]:
    """Run to the end, from the start or from where a checkpoint left off.

    Raises
    ------
    RunError
        If the engine fails for good, or the dynamics blows up. Everything yielded before stays
        valid.
    """
    loop = _Loop(parts)
    if state is None:
        yield from loop.begin()
    else:
        loop.restore(state)
    while loop.step < parts.ensemble.steps:
        if loop.policy.by_engine:
            yield from loop.engine_step()
        else:
            yield from loop.model_segment()


class _LabelFailedError(Exception):
    """Carries a failure out of the middle of an integrator's step."""

    def __init__(self, failure: LabelFailure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class _Loop:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.atoms: Atoms = parts.ensemble.atoms
        self.trainer = parts.trainer
        self.step = 0
        self.policy = PolicyState()
        self.history: tuple[LabelRecord, ...] = ()
        self.failures = 0
        self.ledger = Ledger()
        self.force_checks = ForceChecks()
        self.bonds = BondGraph(np.unique(self.atoms.numbers), depth=1)
        self.environments: set[str] = set()  # bonds an atom had in some label

    def restore(self, state: RunState) -> None:
        for label in relearn(self.parts, state, fs_per_step=self.parts.timestep_fs):
            self.environments.update(self.bonds.classes(label.atoms))
        self.parts.ensemble.restore(state.dynamics)
        self.step, self.policy, self.history = state.step, state.policy, state.history
        self.failures, self.ledger = state.failures, state.ledger
        self.force_checks = state.force_checks

    def state(self) -> RunState:
        return RunState(
            self.step,
            self.parts.ensemble.capture(),
            self.policy,
            self.trainer.capture(),
            self.history,
            self.failures,
            self.ledger,
            force_checks=self.force_checks,
        )

    def begin(self) -> Iterator[Record]:
        """Label the starting structure."""
        yield Activity(0, "label")
        labels = self._label()
        if isinstance(labels, LabelFailure):
            raise unlabelled(self.step, labels)
        self.ledger = self.ledger.switched(labels.energy)
        record = self._learn(labels, "start")
        yield Segment(self._frame(labels, ENGINE), record, self.state())

    def engine_step(self) -> Iterator[Record]:
        """One step on the engine's forces; its label is learned on the way."""
        latest = self.parts.labeller.file[self.trainer.n_labels - 1]
        if not same_geometry(latest.atoms, self.atoms):
            yield from self._hand_back()
            if not self.policy.by_engine:
                return
            latest = self.parts.labeller.file[self.trainer.n_labels - 1]
        yield Activity(self.step, "label")
        start = self.parts.ensemble.capture()
        self.ledger = self.ledger.switched(latest.labels.energy)

        def by_engine(_: Atoms) -> Labels:
            answer = self._label(ahead=1)
            if isinstance(answer, LabelFailure):
                raise _LabelFailedError(answer)
            return answer

        try:
            labels = self.parts.ensemble.step(self.step, latest.labels, by_engine)
        except _LabelFailedError as error:
            self.parts.ensemble.restore(start)
            raise unlabelled(self.step, error.failure) from None
        self.step += 1
        self._enter_in_ledger(labels.energy)
        record = self._learn(labels, "engine" if self._left_start() else "start")
        frames = self._frame(labels, ENGINE)
        yield Segment(frames, record, self.state())

    def _hand_back(self) -> Iterator[Record]:
        """Label the present structure, so that the engine can take over from the model."""
        yield Activity(self.step, "label")
        labels = self._label()
        if isinstance(labels, LabelFailure):
            raise unlabelled(self.step, labels)
        yield Segment([], self._learn(labels, "engine"), self.state())

    def _enter_in_ledger(self, potential: float, work: float = 0.0) -> None:
        """Account for the step just made."""
        ensemble = self.parts.ensemble
        self.ledger = self.ledger.moved(
            potential, heat=ensemble.heat, barostat=ensemble.barostat, work=work
        )

    def _left_start(self) -> bool:
        return any(r.reason != "start" for r in self.history)

    def model_segment(self) -> Iterator[Record]:
        """Predict to the next label, learn it, replay, commit."""
        start, first, ledger = self.parts.ensemble.capture(), self.step, self.ledger
        n_labels = self.trainer.n_labels
        length, reason = planned(
            self.parts.policy,
            self.policy,
            rest=self.parts.ensemble.rest(first),
            n_labels=n_labels,
            seed=self.parts.seed,
        )
        correction = self._correction(n_labels)
        for prediction in self._integrate(length, correction):
            done = self.step - first
            if prediction is None:
                self.ledger = ledger
                length, reason = self._before_explosion(start, first, done), "explosion"
                break
            yield Activity(self.step, "predict")
            alarm = self._alarm(done, prediction) if done < length else None
            if alarm is not None:
                length, reason = done, alarm
                break
        yield Activity(self.step, "label")
        labels = self._label()
        record = None
        if isinstance(labels, LabelFailure):
            self._handle_failure(labels)
        else:
            self.failures = 0
            record = self._learn(labels, reason, correction)
        correction = self._correction(n_labels)
        self.parts.ensemble.restore(start)
        self.step, self.ledger = first, ledger
        frames: list[Frame] = []
        for prediction in self._integrate(length, correction):
            if prediction is None:
                raise RunError(
                    f"step {self.step}: an atom moves more than {LARGEST_STEP_A} A in one step "
                    "although the forces were just learned; start anew with a smaller timestep_fs"
                )
            frames += self._frame(prediction, MODEL)
            yield Activity(self.step, "replay")
        yield Segment(frames, record, self.state())

    def _correction(self, n_labels: int) -> Correction:
        """What is added to the model's forces after the first so many labels."""
        if self.parts.residual != "propagate":
            return Correction(None, 0, 1)
        labelled = [r for r in self.history if r.index < n_labels]
        forecast = self.trainer.residual_forecast(n_labels)
        return Correction(forecast, labelled[-1].step, max(1, labelled[-1].elapsed))

    def _integrate(self, length: int, correction: Correction) -> Iterator[Prediction | None]:
        """Steps on the model's forces; None, and the end, when the dynamics blows up."""

        def by_model(atoms: Atoms, *, ahead: int = 1) -> Prediction:
            if not np.isfinite(atoms.positions).all():
                raise FloatingPointError
            bare = self.trainer.predict(atoms)
            return correction.applied(bare, atoms.positions, self.step + ahead)

        correction.begin()
        latest = by_model(self.atoms, ahead=0)
        self.ledger = self.ledger.switched(latest.energy)
        for _ in range(length):
            before, worked = self.atoms.get_positions(), correction.work
            try:
                latest = self.parts.ensemble.step(self.step, latest, by_model)
            except FloatingPointError:
                yield None
                return
            if blown_up(before, self.atoms.positions, latest.forces):
                yield None
                return
            self.step += 1
            self._enter_in_ledger(latest.energy, correction.work - worked)
            yield latest

    def _before_explosion(self, start: DynamicsState, first: int, done: int) -> int:
        """Go back to the middle of a segment that blew up after ``done`` steps; its new length."""
        length = max(1, done // 2)
        _LOG.warning(
            "step %d: the model's dynamics blew up; labelling at step %d",
            first + done,
            first + length,
        )
        self.parts.ensemble.restore(start)
        self.step = first
        correction = self._correction(self.trainer.n_labels)
        if any(p is None for p in self._integrate(length, correction)):
            raise RunError(
                f"step {first}: an atom moves more than {LARGEST_STEP_A} A in one step right "
                "after a label; start anew with a smaller timestep_fs"
            )
        return length

    def _alarm(self, done: int, prediction: Prediction) -> Reason | None:
        """Why a label is needed at once, if it is."""
        every = self.parts.policy.guard_every
        if not every or done % every:
            return None
        if not self.environments.issuperset(self.bonds.classes(self.atoms)):
            return "bond"
        fires = self.parts.policy.guard_fires(self.trainer.worst_error(self.atoms))
        return "guard" if fires and not self._reassured(prediction.forces) else None

    def _reassured(self, forces: Floats) -> bool:
        """Whether the engine's rough answer, at its worst, would leave the guard still."""
        if not self.parts.force_check:
            return False
        found = self.parts.labeller.check_forces(self.atoms, index=self.trainer.n_labels)
        if found is None:
            return False
        worst = float(np.abs(forces - found.forces).mean(axis=1).max()) + found.within
        spared = not self.parts.policy.guard_fires(worst)
        asked = self.force_checks
        self.force_checks = ForceChecks(asked.asked + 1, asked.spared + spared)
        return spared

    def _label(self, *, ahead: int = 0) -> Labels | LabelFailure:
        index = self.trainer.n_labels
        expected = self.trainer.predict(self.atoms).energy if index >= SENSIBLE else float("nan")
        return self.parts.labeller.label(
            self.atoms, index=index, step=self.step + ahead, expected=expected
        )

    def _learn(
        self, labels: Labels, reason: Reason, correction: Correction | None = None
    ) -> LabelRecord:
        """Measure the forces in use against a label, learn it, let the policy decide."""
        index = self.trainer.n_labels
        added = None if correction is None else correction.at(self.step)
        measured = measure(self.trainer, self.atoms, labels, added=added)
        elapsed = self.step - self.history[-1].step if self.history else 0
        self.environments.update(self.bonds.classes(self.atoms))
        self.trainer.learn(
            self.atoms,
            labels,
            time_fs=self.step * self.parts.timestep_fs,
            audited=reason in UNTRIGGERED,
        )
        choice = self.trainer.choice
        record = LabelRecord(
            index=index,
            step=self.step,
            reason=reason,
            elapsed=elapsed,
            wall_s=labels.wall_s,
            scf_iterations=labels.scf_iterations,
            order=choice.order,
            strength=choice.strength,
            size=str(self.trainer.size),
            total_energy=float(self.atoms.get_kinetic_energy()) + labels.energy - self.ledger.given,
            **asdict(measured),
        )
        self.history = (*self.history, record)
        forecast = self.trainer.error_forecast() if self.parts.residual == "forecast" else None
        self.policy = self.parts.policy.after_label(
            self.policy,
            step=self.step,
            error=record.force_mae,
            elapsed=elapsed,
            reason=reason,
            forecast=expectation(forecast, elapsed),
        )
        return record

    def _frame(self, acting: Acting, source: int) -> list[Frame]:
        """The present step as a frame, unless it is one that is not kept."""
        if self.step % self.parts.frame_every:
            return []
        kinetic, ledger = float(self.atoms.get_kinetic_energy()), self.ledger
        assert ledger.potential is not None
        return [
            Frame(
                step=self.step,
                time_fs=self.step * self.parts.timestep_fs,
                cell=self.atoms.cell.array.copy(),
                positions=self.atoms.get_positions(),
                momenta=self.atoms.get_momenta(),
                forces=acting.forces.copy(),
                potential_energy=ledger.potential,
                kinetic_energy=kinetic,
                conserved_energy=ledger.conserved(kinetic),
                energy_discontinuity=ledger.energy_discontinuity,
                heat=ledger.heat,
                work=ledger.work,
                barostat=ledger.barostat,
                pressure_GPa=self._pressure_GPa(acting),
                stage=self.parts.ensemble.stage,
                temperature_K=self.parts.ensemble.temperature(),
                source=source,
                labels=self.trainer.n_labels,
            )
        ]

    def _pressure_GPa(self, acting: Acting) -> float:
        """Of the atoms, with their motion; NaN where no stress is learned."""
        if acting.stress is None or self.trainer.settings.stress_noise is None:
            return float("nan")
        kinetic = 2.0 * float(self.atoms.get_kinetic_energy()) / self.atoms.get_volume()
        return float(kinetic - np.trace(acting.stress)) / (3.0 * GPA)

    def _handle_failure(self, failure: LabelFailure) -> None:
        """Go on without a label, if that was asked for and is not the rule by now."""
        self.failures += 1
        if not self.parts.continue_on_failure or self.failures >= MOST_FAILURES:
            raise unlabelled(self.step, failure)
        _LOG.warning(
            "step %d: no label (%s); going on with the model as it is", self.step, failure.reason
        )

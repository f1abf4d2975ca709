"""Self-learning hybrid Monte Carlo: proposals by the model, acceptance by engine energies.

Every step is a proposal and yields the resulting sample as a frame. During the burn-in the model
learns from every proposal; afterwards neither the model nor the segment length changes.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

from otf.driver.expected import expected_by
from otf.driver.generators import exhausted
from otf.driver.labelling import MOST_FAILURES, unlabelled
from otf.driver.measure import label_record, measure, relearn
from otf.driver.policy import PolicyState
from otf.driver.records import Activity, LabelRecord, Parts, Record, RunState, Segment
from otf.driver.residual_correction import ResidualCorrection
from otf.driver.segment import ModelForces, Position, SegmentIntegrator, make_frame
from otf.dynamics.hybrid_monte_carlo import (
    SamplerSettings,
    SamplerState,
    acceptance,
    adapted,
    segment_length,
)
from otf.dynamics.ledger import Ledger
from otf.dynamics.velocities import thermal_momenta
from otf.engines.labels import Disbelieved, LabelFailure, Labels
from otf.io.committed import ENGINE, Frame

_LOG = logging.getLogger("otf.hybrid_monte_carlo")

_FIRST_LENGTH = 5.0
_BLOCK_FS = 20.0  # proposals are far apart: each is left out alone in cross-validation


def sample(parts: Parts, state: RunState | None = None) -> Iterator[Record]:
    """Sample to the end, from the start or from a checkpoint.

    Raises
    ------
    RunError
        If the engine gives no label and the run may not continue without it.
    """
    assert parts.sampler is not None
    sampler = _Sampler(parts, parts.sampler)
    if state is None:
        parts.trainer.begin()
        yield from sampler.begin()
    else:
        sampler.restore(state)
    while sampler.step < parts.ensemble.steps:
        yield from sampler.propose()


class _Sampler:
    def __init__(self, parts: Parts, settings: SamplerSettings) -> None:
        self.parts = parts
        self.settings = settings
        self.atoms = parts.ensemble.atoms
        self.trainer = parts.trainer
        self.motion = SegmentIntegrator(parts.ensemble, timestep_fs=parts.timestep_fs)
        self.forces = ModelForces(parts.trainer, ResidualCorrection(None, 0, 1))
        self.step = 0
        self.now = SamplerState(min(_FIRST_LENGTH, float(settings.segment_max)))
        self.history: tuple[LabelRecord, ...] = ()
        self.failures = 0

    def restore(self, state: RunState) -> None:
        assert state.sampler is not None
        relearn(self.parts, state, fs_per_step=_BLOCK_FS)
        self.parts.ensemble.restore(state.dynamics)
        self.step, self.now, self.history = state.step, state.sampler, state.history
        self.failures = state.failures

    def state(self) -> RunState:
        return RunState(
            self.step,
            self.parts.ensemble.capture(),
            PolicyState(self.now.length, by_engine=False),
            self.trainer.capture(),
            self.history,
            self.failures,
            sampler=self.now,
        )

    def begin(self) -> Iterator[Record]:
        """Label the starting structure."""
        yield Activity(0, "label")
        labels = self.parts.labeller.label(self.atoms, index=0, step=0)
        if isinstance(labels, LabelFailure):
            raise unlabelled(0, labels)
        yield Segment(self._frame(), self._account(labels, steps=0, learn=True), self.state())

    @property
    def current(self) -> Labels:
        """Labels of the present sample."""
        return self.parts.labeller.file[self.now.current].labels

    def propose(self) -> Iterator[Record]:
        """Make one proposal and accept or reject it."""
        ensemble, settings, atoms = self.parts.ensemble, self.settings, self.atoms
        momenta = thermal_momenta(
            atoms, settings.temperature_K, ensemble.rng, translation=ensemble.translation
        )
        atoms.set_momenta(momenta)
        length = segment_length(self.now, ensemble.rng)
        start = ensemble.capture()
        before = self.current.energy + float(atoms.get_kinetic_energy())
        yield Activity(self.step, "predict")
        self.step += 1
        burning = self.step <= settings.burn_in
        record, chance = None, 0.0
        labels = None
        if self._integrate(length):
            yield Activity(self.step, "label")
            labels = self._label()
        if labels is not None:
            change = labels.energy + float(atoms.get_kinetic_energy()) - before
            chance = acceptance(change, settings.temperature_K)
            record = self._account(labels, steps=length, learn=burning)
        accepted = ensemble.rng.random() < chance
        if accepted:
            self.now = replace(self.now, current=len(self.history) - 1)
        else:
            # The state of the random generator is not restored.
            ensemble.restore(replace(start, random=ensemble.capture().random))
        if burning:
            self.now = adapted(self.now, settings, accepted=chance, proposals=self.step)
        else:
            self.now = replace(
                self.now, accepted=self.now.accepted + accepted, tried=self.now.tried + 1
            )
        yield Segment(self._frame(), record, self.state())

    def _integrate(self, length: int) -> bool:
        """Propagate the atoms on the model; False if the dynamics diverges."""
        start = Position(0, self.parts.ensemble.capture(), Ledger())
        moved = exhausted(self.motion.integrate(start, length, self.forces))
        return moved.reason is None

    def _label(self) -> Labels | None:
        """Label the proposal; None, which rejects it, if the label fails and the run may continue.

        Detailed balance holds as long as the failure depends on the structure only.
        """
        expected = expected_by(self.trainer, self.atoms, noise=self.parts.label_noise)
        labels = self.parts.labeller.label(
            self.atoms, index=len(self.history), step=self.step, expected=expected
        )
        if isinstance(labels, Labels):
            self.failures = 0
            return labels
        self.failures += 1
        goes_on = self.parts.continue_on_failure or isinstance(labels, Disbelieved)
        if not goes_on or self.failures >= MOST_FAILURES:
            raise unlabelled(self.step, labels)
        _LOG.warning("step %d: no label (%s); the proposal is rejected", self.step, labels.reason)
        return None

    def _account(self, labels: Labels, *, steps: int, learn: bool) -> LabelRecord:
        """Measure the model's error at a label, and learn the label during the burn-in."""
        measured = measure(self.trainer, self.atoms, labels)
        if learn:
            time_fs = _BLOCK_FS * self.step
            self.trainer.learn(self.atoms, labels, time_fs=time_fs, audited=True)
        record = label_record(
            self.trainer,
            labels,
            measured,
            index=len(self.history),
            step=self.step,
            reason="burn-in" if learn else "proposal",
            elapsed=steps,
        )
        self.history = (*self.history, record)
        return record

    def _frame(self) -> list[Frame]:
        """The present sample as a frame; empty if this step is not written."""
        if self.step % self.parts.frame_every:
            return []
        frame = make_frame(
            self.parts.ensemble,
            self.step,
            self.step * self.parts.timestep_fs,
            forces=self.current.forces,
            ledger=Ledger(self.current.energy),
            source=ENGINE,
            labels=self.trainer.n_labels,
        )
        # There is no conserved energy across proposals.
        stage = 0 if self.step <= self.settings.burn_in else 1
        return [replace(frame, conserved_energy=float("nan"), stage=stage)]

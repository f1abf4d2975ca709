"""Records the loop yields, its state, and its parts."""

from dataclasses import dataclass, field
from typing import Literal

from otf.arrays import Floats
from otf.driver.labelling import Labeller
from otf.driver.policy import Policy, PolicyState, Reason
from otf.dynamics.ensembles import DynamicsState
from otf.dynamics.hybrid_monte_carlo import SamplerSettings, SamplerState
from otf.dynamics.ledger import Ledger
from otf.dynamics.stages import StagedEnsemble
from otf.io.committed import SAMPLING, Frame
from otf.learning.learner import Learner
from otf.learning.trainer import TrainerState


@dataclass(frozen=True)
class LabelRecord:
    """Errors of the model at a label, measured before it was learned, and the label's cost.

    Attributes
    ----------
    index, step, reason
        Number of the label, its step, and why it was taken.
    elapsed
        Steps since the previous label; for an audit or a proposal, steps of its segment.
    force_mae, force_p95, force_max
        Absolute error of force components, eV/Angstrom; NaN for the first label.
    predicted
        Root mean square of the predicted errors, eV/Angstrom.
    energy_error
        Model minus engine, eV/atom.
    wall_s
        Seconds the engine took.
    scf_iterations
        SCF iterations of the label, or None if the engine does not report them.
    coverage
        Share of force components within two predicted errors.
    order, strength
        Polynomial order and lambda chosen after learning it.
    size
        Size of the model after learning it.
    total_energy
        Kinetic energy plus the engine's potential energy, minus what thermostat and barostat
        supplied so far, eV: conserved if the forces were the engine's. NaN for an audit.
    stands_for
        Steps of the trajectory that an audit stands for; 0 for other labels.
    """

    index: int
    step: int
    reason: Reason
    elapsed: int
    force_mae: float
    force_p95: float
    force_max: float
    predicted: float
    energy_error: float
    wall_s: float
    scf_iterations: int | None
    order: int
    strength: float
    coverage: float
    size: str
    total_energy: float = float("nan")
    stands_for: float = 0.0


@dataclass(frozen=True)
class ForceChecks:
    """Number of non-self-consistent force checks, and of labels they made unnecessary."""

    asked: int = 0
    spared: int = 0


@dataclass(frozen=True, eq=False)
class WaitingAudit:
    """A committed structure that is labelled with the next ones.

    Attributes
    ----------
    positions, cell
        (N, 3) and (3, 3), Angstrom.
    step
        Its step in the run.
    length, stands_for
        Steps of its segment, and those that the audit stands for.
    """

    positions: Floats
    cell: Floats
    step: int
    length: int
    stands_for: float


@dataclass(frozen=True, eq=False)
class RunState:
    """State a run is resumed from, together with its configuration and its labels."""

    step: int
    dynamics: DynamicsState
    policy: PolicyState
    trainer: TrainerState
    history: tuple[LabelRecord, ...]
    failures: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    sampler: SamplerState | None = None
    force_checks: ForceChecks = field(default_factory=ForceChecks)
    waiting: WaitingAudit | None = None


Phase = Literal["label", "predict", "replay"]


@dataclass(frozen=True)
class Activity:
    """What the loop does next; not stored."""

    step: int
    phase: Phase


@dataclass(frozen=True, eq=False)
class Segment:
    """Committed frames, their labels, and the state after them.

    Attributes
    ----------
    label
        The label that ended the segment; None if it failed.
    others
        Other labels, in their order: of a random one of its committed steps or of those of the
        segment before, and of ends of earlier gaps.
    """

    frames: list[Frame]
    label: LabelRecord | None
    state: RunState
    others: tuple[LabelRecord, ...] = ()

    @property
    def labels(self) -> list[LabelRecord]:
        """The records of its labels, in their order."""
        found = [*self.others] if self.label is None else [self.label, *self.others]
        return sorted(found, key=lambda record: record.index)


Record = Activity | Segment

ResidualUse = Literal["off", "forecast", "propagate"]
"""Use of the residual forecast: none, to shorten gaps, or added to the driving forces."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The components of a run.

    Attributes
    ----------
    frame_every
        Steps between frames that are written.
    continue_on_failure
        Continue with the present model when a label fails.
    residual
        Use of the autoregressive forecast of the force error.
    seed
        Seed of the times of random labels.
    force_check
        Whether a non-self-consistent force check is made where the guard fires.
    label_noise
        Mean absolute noise of the forces of a label, eV/Angstrom; 0 if it was not measured.
    stop_if_unreachable
        Whether a target that the model cannot reach stops the run.
    stop_if_contradictory
        Whether forces that are not the derivatives of the energy stop the run.
    sampler
        Settings of hybrid Monte Carlo, where steps are proposals; None for dynamics.
    """

    ensemble: StagedEnsemble
    trainer: Learner
    policy: Policy
    labeller: Labeller
    timestep_fs: float
    frame_every: int = 1
    continue_on_failure: bool = False
    residual: ResidualUse = "off"
    seed: int = 0
    force_check: bool = False
    label_noise: float = 0.0
    stop_if_unreachable: bool = False
    stop_if_contradictory: bool = True
    sampler: SamplerSettings | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages."""
        if self.sampler is not None:
            return SAMPLING
        return tuple(stage.name for stage in self.ensemble.stages)

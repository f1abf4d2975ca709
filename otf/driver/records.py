"""What the loop yields, what it keeps, and what it is made of."""

from dataclasses import dataclass, field
from typing import Literal

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
    """What a label told about the model, before it was learned.

    Attributes
    ----------
    index, step, reason
        Which label, where, and why.
    elapsed
        Steps since the label before; of its segment, for a proposal.
    force_mae, force_p95, force_max
        Absolute error of force components, eV/Angstrom; NaN for the first label.
    predicted
        Root mean square of the predicted errors, eV/Angstrom.
    energy_error
        Model less engine, eV/atom.
    wall_s
        Seconds the engine took.
    scf_iterations
        Its self-consistency cycles, or None.
    coverage
        Share of force components that lay within two predicted errors.
    order, strength
        Rank and lambda chosen after learning it.
    size
        What the model is made of after learning it.
    total_energy
        Kinetic energy plus the engine's, less what thermostat and barostat gave so far, eV: the
        physics' own conserved quantity, whatever moves the atoms.
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


@dataclass(frozen=True)
class ForceChecks:
    """Second force_checks: how often one was asked for, and how often it spared a label."""

    asked: int = 0
    spared: int = 0


@dataclass(frozen=True, eq=False)
class RunState:
    """Everything the rest of a run depends on, besides its configuration and its labels."""

    step: int
    dynamics: DynamicsState
    policy: PolicyState
    trainer: TrainerState
    history: tuple[LabelRecord, ...]
    failures: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    sampler: SamplerState | None = None
    force_checks: ForceChecks = field(default_factory=ForceChecks)


Phase = Literal["label", "predict", "replay"]


@dataclass(frozen=True)
class Activity:
    """What the loop is about to do; nothing to keep."""

    step: int
    phase: Phase


@dataclass(frozen=True, eq=False)
class Segment:
    """Committed frames, the label that ended them (None where it failed), and the state after."""

    frames: list[Frame]
    label: LabelRecord | None
    state: RunState


Record = Activity | Segment

ResidualUse = Literal["off", "forecast", "propagate"]
"""Off; or to shorten gaps; or added to the forces that move the atoms."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What a run is made of.

    Attributes
    ----------
    frame_every
        Steps between frames that are kept.
    continue_on_failure
        Go on with the model when a label fails.
    residual
        What the autoregressive forecast of the force error is used for.
    seed
        Of the audits' times.
    force_check
        Whether the engine is asked roughly where the guard fires.
    sampler
        For hybrid Monte Carlo: the ensemble's steps are proposals then. None for dynamics.
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
    sampler: SamplerSettings | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that frames are of."""
        if self.sampler is not None:
            return SAMPLING
        return tuple(stage.name for stage in self.ensemble.stages)

"""Schema of the configuration of a run; the names of quantities include their units."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from otf.config.baseline import Baseline
from otf.config.cluster import Cluster
from otf.config.dynamics import Dynamics
from otf.config.engine_section import EngineSection
from otf.config.learn_from import LearnFromAll
from otf.config.replicas import Replicas
from otf.config.section import FilePath, PositiveFloat, PositiveInt, Section

Pair = Annotated[
    tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], Field(strict=False)
]


class Bulk(Section):
    """A crystal made by ``ase.build.bulk``."""

    name: str = Field(description="chemical formula, such as Si or NaCl")
    lattice: str | None = Field(None, description="fcc, bcc, diamond, rocksalt, …")
    a_A: PositiveFloat | None = Field(None, description="lattice constant")
    cubic: bool = Field(False, description="the conventional cubic cell")


class System(Section):
    """The atoms: exactly one of ``structure``, ``from``, ``molecule`` and ``bulk``."""

    from_: FilePath | None = Field(
        None, alias="from", description="input file of the engine that contains the structure"
    )
    structure: FilePath | None = Field(
        None, description="file that ASE can read, relative to the config file"
    )
    molecule: str | None = Field(None, description="a molecule of ase.build.molecule, such as CH4")
    bulk: Bulk | None = Field(None, description="a crystal of ase.build.bulk")
    repeat: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (1, 1, 1), description="repetitions of the cell along its three vectors", strict=False
    )
    masses: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        description="masses of elements, amu, such as {H: 2.014} for deuterium",
    )
    fixed_atoms: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=list, description="indices of atoms that do not move, from 0"
    )
    fixed_bonds: list[Pair] = Field(
        default_factory=list, description="pairs of atoms whose distance is constrained"
    )
    charge: int = Field(0, description="total charge, e")
    spin: Annotated[int, Field(ge=0)] = Field(0, description="number of unpaired electrons")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        names = ("structure", "from_", "molecule", "bulk")
        given = [n.rstrip("_") for n in names if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of structure, from, molecule, bulk; "
                f"found {' and '.join(given) or 'none'}"
            )
        return self


STRESS_NOISE_GPA = 0.1  # fits to DFT reach a fifth of it


class Model(Section):
    """The force model; the defaults suit molecules and crystals."""

    cutoff_two_A: PositiveFloat | None = Field(
        None, description="range of pairs; default: 3.8, 4.5, 5 or 6, by the left-out error"
    )
    cutoff_three_A: PositiveFloat | None = Field(
        None, description="range of triples; default: 3, 3.8, 4 or 5, by the left-out error"
    )
    decay: Annotated[float, Field(ge=0, le=10)] | None = Field(
        None,
        description="decay of the distance coordinate: larger values resolve short distances more "
        "finely; 0 is the plain distance; default: 0, 2 or 4, by the left-out error",
    )
    r_min_A: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="shortest distance that the radial polynomials resolve"
    )
    radial_two: Annotated[int, Field(ge=1, le=20)] = Field(
        8, description="number of radial polynomials of pairs"
    )
    radial_three: Annotated[int, Field(ge=1, le=10)] | None = Field(
        None,
        description="number of radial polynomials of triples; default: 3, 5 or 8, by the left-out "
        "error",
    )
    channels: PositiveInt | None = Field(
        None,
        description="number of channels that the species of neighbours are mixed into, for triples "
        "and more; default: 2, 3, 4 or one for each species, by the left-out error",
    )
    l_max: Annotated[int, Field(ge=0, le=6)] | None = Field(
        None, description="highest angular momentum; default 3, or 4 for a single species"
    )
    order: Literal["auto", 1, 2] = Field(
        "auto",
        description="polynomial order; 2 adds products of the principal components of the "
        "features; auto: chosen by the leave-one-snapshot-out error",
    )
    components: Literal["auto"] | Annotated[int, Field(ge=1, le=60)] = Field(
        "auto",
        description="number of principal components in the order-2 part; auto: 10, 20, 30 or 60",
    )
    body_order: Literal["auto", 3, 4] = Field(
        "auto",
        description="4 adds four-body features; auto: if the three-body features saturate",
    )
    sharing: Literal["auto", "species", "environment", "atom"] = Field(
        "auto",
        description="atoms that share coefficients: those of a species; additional coefficients "
        "for classes of bonded environments; or for every atom. auto: species, then environment",
    )
    environment_depth: Literal[0, 1] = Field(
        1, description="1: the elements bonded to an atom are its environment; 0: there is none"
    )
    coupling: Literal["joint", "self"] = Field(
        "joint",
        description="joint: all forces derive from one total energy; self: each force from the "
        "energy of its own atom, as in the talk, without a potential",
    )
    most_columns: PositiveInt = Field(
        5000,
        description="auto: largest number of unknowns of the models that are tried: coefficients, "
        "or rows of the labels if they are fewer",
    )
    baseline: Baseline = Field(
        default_factory=list,
        description="one or more cheap engines, whose energy the model corrects instead of "
        "learning all of it, such as {kind: tblite}; they are evaluated at every step. auto: "
        "tblite, dropped where the left-out errors are no smaller with it",
    )
    net_force: Literal["keep", "subtract"] = Field(
        "keep",
        description="mean force of the labels of a run, which a model of distances between atoms "
        "does not have: keep it, and err by it; or subtract it from every atom",
    )
    residual: Literal["off", "forecast", "propagate"] = Field(
        "off",
        description="autoregressive forecast of the force error: off; forecast, used to shorten "
        "gaps that would become too long; or propagate, added to the forces, as in the talk, "
        "which does not conserve energy",
    )
    threads: PositiveInt | None = Field(
        None, description="threads for the forces of large systems; default: all cores"
    )
    forgetting: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="factor on the weight of earlier labels at each new one"
    )
    annealing_labels: PositiveFloat | None = Field(
        None, description="number of labels over which forgetting fades out; default: never"
    )
    energy_noise_meV: PositiveFloat = Field(
        10.0, description="expected misfit of the energy of a structure"
    )
    force_noise_meV_A: PositiveFloat = Field(
        30.0, description="expected misfit of a force component"
    )
    stress_noise_GPa: PositiveFloat | None = Field(
        None,
        description="expected misfit of the stress; by default the stress is learned only at "
        f"constant pressure, with {STRESS_NOISE_GPA}",
    )
    atomic_energy_noise_meV: PositiveFloat | None = Field(
        None, description="expected misfit of atomic energies, if the engine provides them"
    )

    @model_validator(mode="after")
    def _range_is_positive(self) -> Self:
        for name in ("cutoff_two_A", "cutoff_three_A"):
            cutoff = getattr(self, name)
            if cutoff is not None and cutoff <= self.r_min_A:
                raise ValueError(f"{name} must be larger than r_min_A ({self.r_min_A})")
        return self

    @model_validator(mode="after")
    def _self_coupling_has_no_energy(self) -> Self:
        if self.coupling == "self":
            for name in ("stress_noise_GPa", "atomic_energy_noise_meV"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no meaning with coupling 'self': leave it out")
        return self


class Policy(Section):
    """When labels are computed."""

    kind: Literal["adaptive", "fixed"] = Field(
        "adaptive",
        description="adaptive: as often as the measured error requires; fixed: as in the talk, "
        "a label at every step of a training phase, then at a fixed interval",
    )
    force_target_meV_A: PositiveFloat = Field(
        20.0, description="adaptive: target for the mean absolute error of the force components"
    )
    confidence_percent: Annotated[float, Field(gt=50, lt=100)] = Field(
        95.0, description="confidence level of the summary's verdict on the target"
    )
    gap_max: PositiveInt = Field(
        3000, description="adaptive: most steps between two labels, over 1000 with small errors"
    )
    unreachable: Literal["accept", "engine", "stop"] = Field(
        "accept",
        description="adaptive: if the model errs by more than the target even one step after a "
        "label: accept the error that it reaches; engine: leave the dynamics to the engine; stop",
    )
    contradictions: Literal["stop", "warn"] = Field(
        "stop",
        description="an engine whose forces are not the derivatives of its energy, by its first "
        "labels: stop, or only warn",
    )
    labels_percent_max: Annotated[float, Field(gt=0, le=100)] = Field(
        100.0,
        description="adaptive: largest share of the steps that are labelled, after the first "
        "20 labels, whatever the error",
    )
    labels_at_once: PositiveInt = Field(
        1,
        description="number of labels that are computed at the same time, each by its own engine",
    )
    guard: PositiveFloat = Field(
        3.0,
        description="adaptive: label at once if the predicted mean error of an atom exceeds this "
        "many times the target",
    )
    guard_every: PositiveInt = Field(
        10, description="adaptive: steps between checks of the predicted error by the guard"
    )
    force_check: bool = Field(
        False,
        description="adaptive: before a label triggered by the guard, check the model against the "
        "non-self-consistent forces of the learned density matrix; no label if they agree "
        "(pyscf, siesta with learned matrices)",
    )
    audit_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2,
        description="adaptive: share of the segments of the model that are labelled at a random "
        "step as they were committed, if their errors are as large as the target; longer ones "
        "more often, and as many as have this share of the steps; beyond eight, fewer while the "
        "error is small. The error of the trajectory is measured there",
    )
    train_fs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        400.0, description="fixed: duration of the training phase with a label at every step"
    )
    every: PositiveInt = Field(10, description="fixed: steps between labels after that")
    on_engine_failure: Literal["stop", "continue"] = Field(
        "stop",
        description="action if the engine fails despite all remedies: stop (resumable), or "
        "continue with the model and try again at the next label, at most three times in a row",
    )


class Learning(Section):
    """What the learning from recorded structures depends on.

    Attributes
    ----------
    timestep_fs
        Time between recorded frames.
    seed
        Seed of random choices.
    """

    model: Model = Model()
    policy: Policy = Policy()
    timestep_fs: PositiveFloat = 1.0
    seed: Annotated[int, Field(ge=0)] = 1


class Output(Section):
    """Output of the run."""

    directory: FilePath | None = Field(
        None,
        description="run directory; default: runs/<name of the config file> in the working "
        "directory",
    )
    every: PositiveInt = Field(1, description="steps between frames of the trajectory")


class Stop(Section):
    """Criteria that end a run, or a session of it, before its last step."""

    labels: PositiveInt | None = Field(None, description="the run ends with this many labels")
    wall_time_min: PositiveFloat | None = Field(
        None,
        description="the session ends within this time: no label is started that would exceed it",
    )
    rdf_error: PositiveFloat | None = Field(
        None,
        description="the run ends when the standard error of every g(r) is below this, from at "
        "least a picosecond of the last stage",
    )
    rdf_cutoff_A: PositiveFloat = Field(6.0, description="largest distance of that g(r)")


class Config(Section):
    """Configuration of a run."""

    system: System
    engine: EngineSection
    dynamics: Dynamics
    model: Model = Model()
    policy: Policy = Policy()
    stop: Stop = Stop()
    output: Output = Output()
    cluster: Cluster = Cluster()
    replicas: Replicas = Replicas()
    learn_from: LearnFromAll = Field(
        default_factory=list,
        description="run directories, files and stores whose labels are learned at the start",
    )
    _from_job: tuple[str, ...] = PrivateAttr(())

    @property
    def from_job(self) -> tuple[str, ...]:
        """What was taken from the input file of the engine, and what was left, a line each."""
        return self._from_job

    def remember_job(self, lines: Iterable[str]) -> None:
        """Keep the lines of :attr:`from_job`, which are not part of the configuration."""
        self._from_job = tuple(lines)

    @model_validator(mode="after")
    def _pressure_needs_one_energy(self) -> Self:
        if self.dynamics.constant_pressure and self.model.coupling == "self":
            raise ValueError("model.coupling 'self' has no stress: npt needs 'joint'")
        return self

    @model_validator(mode="after")
    def _multiple_time_steps_are_of_constant_volume(self) -> Self:
        respa = any(term.use == "respa" for term in self.model.baseline)
        if respa and self.dynamics.constant_pressure:
            raise ValueError(
                "model.baseline.use: respa is not available at constant pressure; use exact or "
                "prior_mean"
            )
        return self

    @model_validator(mode="after")
    def _labels_at_once_are_of_one_model(self) -> Self:
        for is_set, reason in (
            (self.replicas.count > 1, "replicas: set replicas.labels_at_once in its place"),
            (self.dynamics.ensemble == "slhmc", "slhmc, whose proposals follow one another"),
            (self.model.residual != "off", "model.residual"),
            (self.policy.force_check, "policy.force_check"),
        ):
            if is_set and self.policy.labels_at_once > 1:
                raise ValueError(f"policy.labels_at_once must be 1 with {reason}")
        return self

    @model_validator(mode="after")
    def _replicas_are_of_one_kind(self) -> Self:
        replicas = self.replicas
        for name in ("temperatures_K", "structures"):
            given = len(getattr(replicas, name))
            if given not in (0, replicas.count):
                raise ValueError(
                    f"replicas.{name}: {given} for {replicas.count} replicas; give one for each"
                )
        if replicas.count == 1:
            return self
        if self.dynamics.plumed:
            raise ValueError("replicas: dynamics.plumed needs separate runs")
        if self.dynamics.ensemble == "slhmc":
            raise ValueError("replicas: slhmc freezes its model, but replicas continue to train it")
        if self.model.residual != "off":
            raise ValueError("replicas: model.residual needs a single trajectory; set it off")
        if replicas.temperatures_K and self.dynamics.stages:
            raise ValueError("replicas.temperatures_K: stages have temperatures of their own")
        return self

    def of_replica(self, number: int) -> "Config":
        """Configuration of a single replica; numbers start from 0."""
        dynamics: dict[str, Any] = {"seed": self.dynamics.seed + number}
        if self.replicas.temperatures_K:
            dynamics["temperature_K"] = self.replicas.temperatures_K[number]
        return self.model_copy(
            update={
                "dynamics": self.dynamics.model_copy(update=dynamics),
                "replicas": Replicas(),
                "learn_from": [],
            }
        )

    @property
    def effective_model(self) -> Model:
        """The model section, with a stress noise if the dynamics needs the stress."""
        if self.model.stress_noise_GPa is None and self.dynamics.constant_pressure:
            return self.model.model_copy(update={"stress_noise_GPa": STRESS_NOISE_GPA})
        return self.model

"""The schema of a run. Every number carries its unit in its name."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]
Pair = Annotated[
    tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], Field(strict=False)
]
FilePath = Annotated[Path, Field(strict=False)]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, types are not guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Bulk(Section):
    """A crystal made by ``ase.build.bulk``."""

    name: str = Field(description="chemical formula, such as Si or NaCl")
    lattice: str | None = Field(None, description="fcc, bcc, diamond, rocksalt, …")
    a_A: PositiveFloat | None = Field(None, description="lattice constant")
    cubic: bool = Field(False, description="the conventional cubic cell")


class System(Section):
    """What moves: exactly one of ``structure``, ``from``, ``molecule`` and ``bulk``."""

    from_: FilePath | None = Field(
        None, alias="from", description="input file of the engine that holds a structure"
    )
    structure: FilePath | None = Field(
        None, description="file ASE can read, relative to the config file"
    )
    molecule: str | None = Field(None, description="a molecule of ase.build.molecule, such as CH4")
    bulk: Bulk | None = Field(None, description="a crystal of ase.build.bulk")
    repeat: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (1, 1, 1), description="supercell along the three vectors", strict=False
    )
    masses: dict[str, PositiveFloat] = Field(
        default_factory=dict, description="of elements, amu, such as {H: 2.014} for deuterium"
    )
    fixed_atoms: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=list, description="numbers of atoms that do not move, from 0"
    )
    fixed_bonds: list[Pair] = Field(
        default_factory=list, description="pairs of atoms whose distance is kept"
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


class EngineSection(Section):
    """The reference the model learns from; further keys belong to the engine."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    kind: str = Field(description="tblite, pyscf, ase, or any installed engine")

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the engine."""
        return dict(self.model_extra or {})


class Dynamics(Section):
    """How the atoms move."""

    ensemble: Literal["nve", "csvr", "langevin", "nhc"] = Field(
        "nve",
        description="csvr: stochastic velocity rescaling (Bussi); langevin: friction and noise "
        "(BAOAB); nhc: a Nosé-Hoover chain",
    )
    steps: PositiveInt = Field(description="length of the run")
    timestep_fs: Annotated[float, Field(gt=0, le=20)] = 0.5
    temperature_K: Annotated[float, Field(ge=0, le=1e5)] = Field(
        300.0, description="of the initial velocities and of the thermostat"
    )
    temperature_end_K: PositiveFloat | None = Field(
        None,
        description="csvr, langevin: the thermostat goes there from temperature_K in a straight "
        "line over the run",
    )
    time_constant_fs: PositiveFloat = Field(
        100.0, description="csvr, nhc: relaxation time of the thermostat"
    )
    friction_per_ps: PositiveFloat = Field(10.0, description="langevin: friction")
    velocities: Literal["maxwell", "structure"] = Field(
        "maxwell", description="drawn for temperature_K, or those of the structure file"
    )
    remove_translation: bool = Field(
        True, description="take the centre of mass's motion out of the initial velocities"
    )
    remove_rotation: bool = Field(
        False, description="take the rotation of an isolated molecule out, too"
    )
    seed: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _thermostat_needs_temperature(self) -> Self:
        if self.ensemble != "nve" and self.temperature_K == 0:
            raise ValueError(f"temperature_K must be above 0 for ensemble '{self.ensemble}'")
        if self.temperature_end_K is not None and self.ensemble not in ("csvr", "langevin"):
            raise ValueError(
                f"temperature_end_K needs ensemble csvr or langevin, not '{self.ensemble}'"
            )
        return self


class Model(Section):
    """The force model; the defaults serve molecules and crystals."""

    cutoff_two_A: PositiveFloat | None = Field(
        None, description="range of pairs; default 6 for molecules, 5 for crystals"
    )
    cutoff_three_A: PositiveFloat | None = Field(
        None, description="range of triples; default 4 for molecules, 5 for crystals"
    )
    r_min_A: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="shortest distance the radial polynomials resolve"
    )
    radial_two: Annotated[int, Field(ge=1, le=20)] = Field(8, description="pair polynomials")
    radial_three: Annotated[int, Field(ge=1, le=10)] | None = Field(
        None, description="triple polynomials; default 3, or 5 for a single species"
    )
    l_max: Annotated[int, Field(ge=0, le=6)] | None = Field(
        None, description="angular resolution; default 3, or 4 for a single species"
    )
    rank: Literal["auto", 1, 2] = Field(
        "auto",
        description="2 adds products of the principal components of the features; "
        "auto: when the leave-one-snapshot-out error says so",
    )
    components: Literal["auto"] | Annotated[int, Field(ge=1, le=60)] = Field(
        "auto", description="principal components in the rank-2 part; auto: 10, then 20 or 30"
    )
    body_order: Literal["auto", 3, 4] = Field(
        "auto", description="4 adds features of four atoms; auto: where three-body ones saturate"
    )
    sharing: Literal["auto", "species", "environment", "atom"] = Field(
        "auto",
        description="which atoms have coefficients of their own: species only; also classes of "
        "bonded environments; also every single atom. auto: species, then environment",
    )
    environment_depth: Annotated[int, Field(ge=0, le=4)] = Field(
        1, description="bonds away that an atom may be to count for its environment"
    )
    coupling: Literal["joint", "self"] = Field(
        "joint",
        description="joint: all forces follow from one energy; self: each force from its atom's "
        "own energy, as in the talk, without a potential",
    )
    most_columns: PositiveInt = Field(
        4000, description="auto: models of more coefficients are not tried"
    )
    residual: Literal["off", "forecast", "propagate"] = Field(
        "off",
        description="autoregressive forecast of the force error: off; to shorten gaps that are "
        "about to grow too long; or added to the forces, as in the talk: pumps energy",
    )
    threads: PositiveInt | None = Field(
        None, description="threads for the forces of large systems; default: all cores"
    )
    forgetting: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="weight of the past at each label"
    )
    annealing_labels: PositiveFloat | None = Field(
        None, description="labels after which forgetting has faded; default: never"
    )
    energy_noise_meV: PositiveFloat = Field(
        10.0, description="expected misfit of a structure's energy"
    )
    force_noise_meV_A: PositiveFloat = Field(
        30.0, description="expected misfit of a force component"
    )
    stress_noise_GPa: PositiveFloat | None = Field(
        None, description="expected misfit of the stress; left out, the stress is not learned"
    )
    atomic_energy_noise_meV: PositiveFloat | None = Field(
        None, description="the same for energies of atoms, where the engine has them"
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
    """When the engine is asked."""

    kind: Literal["adaptive", "fixed"] = Field(
        "adaptive",
        description="adaptive: as often as the measured error demands; fixed: as in the talk, "
        "train, then label every so many steps",
    )
    force_target_meV_A: PositiveFloat = Field(
        20.0, description="adaptive: mean absolute error of a force component to stay below"
    )
    confidence_percent: Annotated[float, Field(gt=50, lt=100)] = Field(
        95.0, description="with which the summary says whether the target was kept"
    )
    gap_max: PositiveInt = Field(200, description="adaptive: most steps between two labels")
    guard: PositiveFloat = Field(
        3.0,
        description="adaptive: label at once when the mean error expected of an atom exceeds this "
        "many times the target",
    )
    guard_every: PositiveInt = Field(10, description="adaptive: steps between looks at the guard")
    audit_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1,
        description="adaptive: share of the labels moved to a random step of their gap, for error "
        "statistics that no opinion of the model has a part in",
    )
    train_fs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        400.0, description="fixed: time with a label at every step"
    )
    every: PositiveInt = Field(10, description="fixed: steps between labels after that")
    on_engine_failure: Literal["stop", "continue"] = Field(
        "stop",
        description="when no remedy helps: stop (resumable), or go on with the model and try "
        "again at the next label, three times in a row at most",
    )


class Output(Section):
    """Where the results go."""

    directory: FilePath | None = Field(
        None, description="default: runs/<name of the config file>, relative to where otf is run"
    )
    every: PositiveInt = Field(1, description="steps between frames of the trajectory")


class Stop(Section):
    """What ends a run, or a sitting of it, before its last step."""

    labels: PositiveInt | None = Field(None, description="the run ends with this many labels")
    wall_time_min: PositiveFloat | None = Field(
        None,
        description="the sitting ends in time to be finished then: no label is begun that would "
        "take longer",
    )


class Config(Section):
    """A run of otf."""

    system: System
    engine: EngineSection
    dynamics: Dynamics
    model: Model = Model()
    policy: Policy = Policy()
    stop: Stop = Stop()
    output: Output = Output()

"""The ``dynamics`` section: how the atoms move."""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from otf.config.bias import Bias, Metadynamics
from otf.config.section import FilePath, PositiveFloat, PositiveInt, Section

EnsembleName = Literal["nve", "csvr", "langevin", "nhc", "npt", "npt_full", "slhmc"]
CONSTANT_PRESSURE = ("npt", "npt_full")
_THERMOSTATS = ("csvr", "langevin", "nhc", *CONSTANT_PRESSURE)
Temperature = Annotated[float, Field(ge=0, le=1e5)]
Pressure = Annotated[float, Field(ge=-1e3, le=1e5)]


class Stage(Section):
    """A stage of the run; keys left out are taken from the rest of ``dynamics``."""

    name: Annotated[str, Field(min_length=1)] = Field(
        description="name, such as equilibrate or produce"
    )
    steps: PositiveInt = Field(description="length of the stage")
    ensemble: EnsembleName | None = None
    temperature_K: Temperature | None = None
    temperature_end_K: PositiveFloat | None = None
    pressure_GPa: Pressure | None = None
    pressure_end_GPa: Pressure | None = None
    time_constant_fs: PositiveFloat | None = None
    friction_per_ps: PositiveFloat | None = None
    pressure_constant_fs: PositiveFloat | None = None


class Dynamics(Section):
    """Ensemble, length and thermodynamic conditions of the run."""

    ensemble: EnsembleName = Field(
        "nve",
        description="csvr: stochastic velocity rescaling (Bussi); langevin: friction and noise "
        "(BAOAB); nhc: Nosé-Hoover chain; npt, npt_full: Nosé-Hoover chains with an isotropic or "
        "a fully flexible cell (Martyna, Tobias, Klein); slhmc: self-learning hybrid Monte Carlo, "
        "exact sampling without dynamics",
    )
    steps: PositiveInt | None = Field(
        None, description="length of the run (slhmc: proposals); left out if there are stages"
    )
    stages: list[Stage] = Field(default_factory=list, description="successive stages of the run")
    timestep_fs: Annotated[float, Field(gt=0, le=20)] = 0.5
    temperature_K: Temperature = Field(
        300.0, description="temperature of the initial velocities and of the thermostat"
    )
    temperature_end_K: PositiveFloat | None = Field(
        None,
        description="final temperature of the thermostat, changed linearly from temperature_K",
    )
    pressure_GPa: Pressure = Field(0.0, description="npt, npt_full: pressure of the barostat")
    pressure_end_GPa: Pressure | None = Field(
        None,
        description="npt, npt_full: final pressure of the barostat, changed linearly from "
        "pressure_GPa",
    )
    pressure_constant_fs: PositiveFloat = Field(
        1000.0, description="npt, npt_full: relaxation time of the barostat"
    )
    time_constant_fs: PositiveFloat = Field(
        100.0, description="csvr, nhc, npt, npt_full: relaxation time of the thermostat"
    )
    friction_per_ps: PositiveFloat = Field(10.0, description="langevin: friction coefficient")
    burn_in: PositiveInt = Field(
        100, description="slhmc: proposals from which the model learns before it is frozen"
    )
    segment_max: PositiveInt = Field(
        200, description="slhmc: largest number of model steps between two engine calls"
    )
    velocities: Literal["maxwell", "structure"] = Field(
        "maxwell",
        description="initial velocities: maxwell, drawn at temperature_K; or structure, those of "
        "the structure file",
    )
    remove_translation: bool = Field(
        True, description="remove the motion of the centre of mass from the initial velocities"
    )
    remove_rotation: bool = Field(
        False, description="also remove the rotation of an isolated molecule"
    )
    bias: Bias = Field(
        default_factory=list,
        description="restraints, walls and metadynamics, added to the forces that move the atoms",
    )
    plumed: FilePath | None = Field(
        None,
        description="input file of PLUMED, whose bias is added to the forces that move the atoms; "
        "its files are in the folder plumed of the run directory",
    )
    seed: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _thermostat_needs_temperature(self) -> Self:
        if self.ensemble != "nve" and self.temperature_K == 0:
            raise ValueError(f"temperature_K must be above 0 for ensemble '{self.ensemble}'")
        if self.temperature_end_K is not None and self.ensemble not in _THERMOSTATS:
            raise ValueError(
                f"temperature_end_K needs a thermostat, not ensemble '{self.ensemble}'"
            )
        if self.pressure_end_GPa is not None and self.ensemble not in CONSTANT_PRESSURE:
            raise ValueError(
                f"pressure_end_GPa needs ensemble npt or npt_full, not '{self.ensemble}'"
            )
        return self

    @model_validator(mode="after")
    def _bias_suits_the_ensemble(self) -> Self:
        if self.bias and self.plumed:
            raise ValueError("give bias or plumed; PLUMED has walls and restraints of its own")
        if (self.bias or self.plumed) and self.ensemble == "slhmc":
            raise ValueError("bias needs dynamics, not ensemble 'slhmc'; remove one of them")
        growing = [term for term in self.bias if isinstance(term, Metadynamics)]
        if len(growing) > 1:
            raise ValueError("bias: give metadynamics once, along one or two variables")
        if growing and growing[0].bias_factor and self.temperature_K == 0:
            raise ValueError("bias: bias_factor needs a temperature_K above 0")
        return self

    @model_validator(mode="after")
    def _steps_or_stages(self) -> Self:
        if (self.steps is None) != bool(self.stages):
            raise ValueError("give either steps, for a run without stages, or stages")
        if not self.stages:
            return self
        for key in ("temperature_end_K", "pressure_end_GPa"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key} belongs to one of the stages; move it there")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError("stages: two of them have the same name; give each its own")
        for stage in self.stages:
            if "slhmc" in (self.ensemble, stage.ensemble):
                raise ValueError("slhmc has no stages except its burn-in; give steps instead")
            try:
                self._of(stage)
            except ValidationError as error:
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"stage '{stage.name}': {reason}") from error
        return self

    def _of(self, stage: Stage) -> "Dynamics":
        own = stage.model_dump(exclude={"name"}, exclude_none=True)
        return Dynamics.model_validate(self.model_dump(exclude={"stages"}) | own)

    def staged(self) -> dict[str, "Dynamics"]:
        """Complete settings of each stage by name; a run without stages has the one ``run``."""
        if not self.stages:
            return {"run": self}
        return {stage.name: self._of(stage) for stage in self.stages}

    @property
    def total_steps(self) -> int:
        """Length of the run."""
        return sum(d.steps or 0 for d in self.staged().values())

    @property
    def constant_pressure(self) -> bool:
        """Whether the cell varies in any stage."""
        return any(d.ensemble in CONSTANT_PRESSURE for d in self.staged().values())

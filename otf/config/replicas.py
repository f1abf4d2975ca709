"""The ``replicas`` section: replicas that share one model."""

from typing import Literal

from pydantic import Field

from otf.config.section import FilePath, PositiveFloat, PositiveInt, Section


class Replicas(Section):
    """Replicas of the run, each with its own seed, which all learn from every label."""

    count: PositiveInt = Field(1, description="how many; 1: a run as any other")
    temperatures_K: list[PositiveFloat] = Field(
        default_factory=list, description="one for each, in place of dynamics.temperature_K"
    )
    structures: list[FilePath] = Field(
        default_factory=list,
        description="one for each, with the same atoms in the same order as system has",
    )
    labels_at_once: PositiveInt | None = Field(
        None, description="engines that run at a time; default: as many as there are cores for"
    )
    backend: Literal["threads", "executorlib"] = Field(
        "threads",
        description="what starts labels: threads of this process; or executorlib, each in a "
        "process of its own, in a job each in a step: for engines that are Python (a label takes "
        "some 2 s more)",
    )

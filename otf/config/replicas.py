"""The ``replicas`` section: replicas that share one model."""

from typing import Literal

from pydantic import Field

from otf.config.section import FilePath, PositiveFloat, PositiveInt, Section


class Replicas(Section):
    """Replicas of the run, each with its own seed, that share a model and all labels."""

    count: PositiveInt = Field(1, description="number of replicas; 1: an ordinary run")
    temperatures_K: list[PositiveFloat] = Field(
        default_factory=list,
        description="temperature of each replica, in place of dynamics.temperature_K",
    )
    structures: list[FilePath] = Field(
        default_factory=list,
        description="structure file of each replica, with the atoms of system in the same order",
    )
    labels_at_once: PositiveInt | None = Field(
        None, description="number of engines that run at a time; default: limited by the cores"
    )
    backend: Literal["threads", "executorlib"] = Field(
        "threads",
        description="where labels are computed: in threads of this process; or, by executorlib, "
        "each in a process of its own, within a job in a job step of its own: for engines "
        "in Python (adds about 2 s per label)",
    )

"""The ``cluster`` section: what a batch job asks Slurm for."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from otf.config.section import FilePath, PositiveFloat, PositiveInt, Section

_TIME = re.compile(
    r"(?:(?P<days>\d+)-(?P<d_hours>\d+)(?::(?P<d_min>\d+)(?::(?P<d_s>\d+))?)?"
    r"|(?:(?P<hours>\d+):)?(?P<min>\d+):(?P<s>\d+)|(?P<minutes>\d+))\Z"
)


def seconds(time: str) -> int:
    """Seconds of a time as Slurm writes it (sbatch(1), ``--time``).

    >>> [seconds(t) for t in ("90", "30:00", "24:00:00", "2-12", "1-00:30")]
    [5400, 1800, 86400, 216000, 88200]

    Raises
    ------
    ValueError
        If it is not one.
    """
    found = _TIME.match(time)
    if found is None:
        raise ValueError("expected a time such as 30:00, 24:00:00 or 2-12:00:00")
    part = {name: int(value or 0) for name, value in found.groupdict().items()}
    return (
        86400 * part["days"]
        + 3600 * (part["d_hours"] + part["hours"])
        + 60 * (part["d_min"] + part["min"] + part["minutes"])
        + part["d_s"]
        + part["s"]
    )


def _is_time(time: str) -> str:
    seconds(time)
    return time


Time = Annotated[str, AfterValidator(_is_time)]


class Cluster(Section):
    """A job under Slurm; see ``otf submit``."""

    profile: FilePath | None = Field(
        None, description="file with keys of this section for a site; what stands here counts more"
    )
    partition: str | None = Field(None, description="default: the site's")
    account: str | None = Field(None, description="who pays")
    nodes: PositiveInt = 1
    tasks: PositiveInt = Field(1, description="MPI ranks on all nodes together")
    threads: PositiveInt = Field(1, description="cores of a rank")
    model_ranks: PositiveInt = Field(
        1, description="MPI ranks of otf itself, for large systems; started by mpirun"
    )
    time: Time = Field("24:00:00", description="of one job, as Slurm writes it: 2-12:00:00")
    warning_min: PositiveFloat = Field(
        10.0, description="before the end of a job, when the run is told to stop at a safe point"
    )
    again: Literal["requeue", "chain", "no"] = Field(
        "requeue",
        description="when a job's time is over and the run is not: put the job back into the "
        "queue; or submit another that follows it, where requeueing is not allowed; or nothing",
    )
    modules: list[str] = Field(default_factory=list, description="to be loaded")
    lines: list[str] = Field(
        default_factory=list, description="shell lines before the run, such as export FOO=1"
    )
    options: list[str] = Field(
        default_factory=list, description="further options of sbatch, such as --qos=long"
    )

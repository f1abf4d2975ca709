"""The ``cluster`` section: the resources of a batch job under Slurm."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from otf.config.section import FilePath, PositiveFloat, PositiveInt, Section

_WORD = re.compile(r"[\w,.:=@%+/\-]+\Z")
_TIME = re.compile(
    r"(?:(?P<days>\d+)-(?P<d_hours>\d+)(?::(?P<d_min>\d+)(?::(?P<d_s>\d+))?)?"
    r"|(?:(?P<hours>\d+):)?(?P<min>\d+):(?P<s>\d+)|(?P<minutes>\d+))\Z"
)


def seconds(time: str) -> int:
    """Seconds of a time in the notation of Slurm (sbatch(1), ``--time``).

    >>> [seconds(t) for t in ("90", "30:00", "24:00:00", "2-12", "1-00:30")]
    [5400, 1800, 86400, 216000, 88200]

    Raises
    ------
    ValueError
        If it is not such a time.
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


def _is_word(text: str) -> str:
    if not _WORD.match(text):
        raise ValueError("expected letters, digits and ,.:=@%+/_- only")
    return text


def _is_line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError("expected a single line; give several as a list")
    return text


Word = Annotated[str, AfterValidator(_is_word)]
Line = Annotated[str, AfterValidator(_is_line)]


class Cluster(Section):
    """A job under Slurm; see ``otf submit``."""

    profile: FilePath | None = Field(
        None, description="file with keys of this section for a site; keys given here override it"
    )
    partition: Word | None = Field(None, description="partition; default: that of the site")
    account: Word | None = Field(None, description="account charged for the job")
    nodes: PositiveInt = 1
    tasks: PositiveInt = Field(1, description="MPI ranks on all nodes together")
    threads: PositiveInt = Field(1, description="cores per rank")
    model_ranks: PositiveInt = Field(
        1, description="MPI ranks of otf itself, for large systems; started by mpirun"
    )
    time: Time = Field(
        "24:00:00", description="time limit of one job in Slurm's notation, such as 2-12:00:00"
    )
    warning_min: PositiveFloat = Field(
        10.0, description="time before the end of a job at which the run is signalled to stop"
    )
    again: Literal["requeue", "chain", "no"] = Field(
        "requeue",
        description="action if the time limit is reached before the run ends: requeue the job; "
        "chain: submit another that follows it, where requeueing is not allowed; or no action",
    )
    modules: list[Word] = Field(default_factory=list, description="environment modules to load")
    lines: list[Line] = Field(
        default_factory=list,
        description="shell commands before the run, such as export FOO=1",
    )
    options: list[Line] = Field(
        default_factory=list, description="further options of sbatch, such as --qos=long"
    )

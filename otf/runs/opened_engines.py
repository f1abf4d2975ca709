"""The engine of a run, or several of them for labels that are computed at once."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ase import Atoms

from otf.config import Config
from otf.engines.allocation import this_job
from otf.engines.at_once import SeveralEngines
from otf.engines.launch import UNBOUND
from otf.engines.process import split_command
from otf.engines.protocol import Engine, LabelSource
from otf.model.workers import available_cores
from otf.runs.assemble import make_engine

_LOG = logging.getLogger("otf.session")
_LAUNCHERS = ("mpirun", "mpiexec", "srun")


@contextmanager
def opened(config: Config, first: Engine, atoms: Atoms, scratch: Path) -> Iterator[LabelSource]:
    """Open as many engines as labels are computed at once; close them at the end.

    Parameters
    ----------
    first
        One of them, to be opened in ``scratch``; the others have folders in it.

    Raises
    ------
    EngineError
        If one cannot be opened.
    """
    count, room = config.policy.labels_at_once, room_for_engines(config)
    if count == 1 and room > 1 and this_job() is not None:
        _LOG.info("the job has cores for %d labels at once (policy.labels_at_once)", room)
    if count > 1:  # else Open MPI binds the first rank of every engine to the same core
        os.environ.update(UNBOUND)
        _LOG.info("%d labels at once", count)
    with ExitStack() as stack:
        engines: list[Engine] = []
        for number in range(count):
            engine = make_engine(config) if number else first
            stack.callback(engine.close)
            engine.open(atoms, scratch / f"engine-{number}" if number else scratch)
            engines.append(engine)
        yield SeveralEngines(engines) if count > 1 else first


def room_for_engines(config: Config) -> int:
    """Engines that the cores of the job, or of this machine, can run at a time; 1 if unknown."""
    job, options = this_job(), config.engine.options
    cores = available_cores() if job is None else job.cpus
    words = split_command(str(options.get("command") or ""))
    if options.get("ranks") is None and words and Path(words[0]).name in _LAUNCHERS:
        return 1  # its number of ranks is unknown
    return cores // cores_of_a_label(config)


def cores_of_a_label(config: Config) -> int:
    """Ranks of the engine times their threads."""
    options = config.engine.options
    return int(options.get("ranks") or 1) * int(options.get("threads") or 1)

"""The engine of a run, or several of them for labels that are computed at once."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ase import Atoms

from otf.config import Config
from otf.engines.at_once import SeveralEngines
from otf.engines.launch import UNBOUND
from otf.engines.protocol import Engine, LabelSource
from otf.runs.assemble import make_engine

_LOG = logging.getLogger("otf.session")


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
    count = config.policy.labels_at_once
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

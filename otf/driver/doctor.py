"""What is on this machine: otf, Python, threads, engines."""

import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numba

from otf.engine import installed_engines, load_engine
from otf.errors import EngineError
from otf.version import __version__


def examine() -> dict[str, Any]:
    """Facts about the machine, and a report of each engine by kind."""
    engines: dict[str, Any] = {}
    for kind in sorted(installed_engines()):
        try:
            engines[kind] = asdict(load_engine(kind).doctor())
        except EngineError as error:
            engines[kind] = {"available": False, "version": "", "notes": [str(error)]}
    machine = {
        "otf": __version__,
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "ase": version("ase"),
        "numba": version("numba"),
        "cores": len(os.sched_getaffinity(0)),
        "threads": f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}, "
        f"numba {numba.config.NUMBA_NUM_THREADS}",
    }
    return {"machine": machine, "engines": engines}

"""Report on this machine: otf, Python, threads, engines; and a trial of one job."""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numba
from ase import Atoms

from otf.config import read_config
from otf.driver.consistency import ForceEnergyCheck
from otf.engines.asking import ask
from otf.engines.label_noise import LabelNoise, noise_between, translated
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import Engine
from otf.engines.registry import installed_engines, load_engine
from otf.engines.stress_check import strained, stress_problem
from otf.errors import EngineError, RunError
from otf.runs.assemble import make_engine
from otf.runs.check import check
from otf.runs.plumed import with_plumed
from otf.runs.structure import make_structure, notes_on
from otf.runs.trust import check_trusted
from otf.units import MEV
from otf.version import __version__

_DISPLACEMENTS, _DISPLACEMENT_A = 3, 0.02  # labels of displaced atoms that check the forces


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


@dataclass(frozen=True)
class Trial:
    """Trial of a job's engine: opened, optionally with two labels.

    Attributes
    ----------
    scf_cold, scf_warm, wall_cold_s, wall_warm_s
        SCF iterations and seconds of a label from scratch, and of one that starts from it. None if
        not computed or not reported.
    noise_meV_A
        Noise of the forces by translating all atoms: a lower bound of model errors.
    problems
        What is wrong with the labels: forces or stress that are not derivatives of the energy.
    notes
        What was taken from the input file of the engine, and what was left; what may not be meant
        in the structure.
    """

    kind: str
    formula: str
    atoms: int
    provenance: str = ""
    energy_eV: float | None = None
    scf_cold: int | None = None
    scf_warm: int | None = None
    wall_cold_s: float | None = None
    wall_warm_s: float | None = None
    noise_meV_A: float | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def try_job(source: Path, *, compute: bool, trusted: bool = False) -> Trial:
    """Open the engine of a configuration as a run would, and optionally compute labels.

    Parameters
    ----------
    source
        The configuration; nothing is written beside it.
    compute
        Label the starting structure from scratch, and from there translated, displaced and
        strained.
    trusted
        Whether a configuration of another user may run its engine.

    Raises
    ------
    ConfigError, EngineError
        If a run could not start.
    RunError
        If the engine does not compute a label, or may not run.
    """
    config = read_config(source)
    check_trusted(config, source, trusted=trusted)
    atoms = make_structure(config, source.parent)
    engine = make_engine(config)
    check(config, atoms, engine.capabilities)
    with_plumed(config, source.parent, atoms)  # checks it
    kind, formula = config.engine.kind, atoms.get_chemical_formula()
    notes = (*config.from_job, *notes_on(config, atoms))
    untried = Trial(kind, formula, len(atoms), notes=notes)
    scratch = Path(mkdtemp(prefix="otf-doctor-"))  # kept for inspection if a label fails
    try:
        engine.open(atoms, scratch)
        trial = _compare(engine, atoms, untried) if compute else None
    finally:
        engine.close()
    shutil.rmtree(scratch)
    return trial or untried


def _compare(engine: Engine, atoms: Atoms, trial: Trial) -> Trial:
    """Compute labels: from scratch, and from there translated, displaced and strained."""
    cold = _label(engine, atoms, 0)
    warm = _label(engine, translated(atoms), 1)
    noise = noise_between(cold, warm)
    return replace(
        trial,
        provenance=cold.provenance,
        energy_eV=cold.energy,
        scf_cold=cold.scf_iterations,
        scf_warm=warm.scf_iterations,
        wall_cold_s=cold.wall_s,
        wall_warm_s=warm.wall_s,
        noise_meV_A=noise.force_mae / MEV,
        problems=tuple(_problems(engine, atoms, cold, noise)),
    )


def _problems(engine: Engine, atoms: Atoms, first: Labels, noise: LabelNoise) -> Iterator[str]:
    """What is wrong with forces and stress, by labels of displaced and strained structures."""
    check, index = ForceEnergyCheck(noise.force_mae), 2
    found = check.add(atoms, first)
    displaced = atoms.copy()
    displaced.set_constraint()
    for index in range(2, 2 + _DISPLACEMENTS):
        displaced.rattle(_DISPLACEMENT_A, seed=index)
        found = found or check.add(displaced, _label(engine, displaced, index))
    if found is not None:
        yield found
    if atoms.pbc.all() and first.stress is not None:
        second = _label(engine, strained(atoms), index + 1)
        found = stress_problem(first, second, volume=atoms.get_volume(), noise=noise.energy)
        if found is not None:
            yield found


def _label(engine: Engine, atoms: Atoms, index: int) -> Labels:
    answer = ask(engine, atoms, index=index)
    if isinstance(answer, LabelFailure):
        raise RunError(f"no label: {answer.reason}. {answer.advice}")
    return answer

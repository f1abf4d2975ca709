"""How many labels a run will take, by running it with xTB in the place of its engine.

How often the model needs a label depends on the motion of the atoms, on the target and on the
model; the engine matters less. The simulation has the structure, dynamics, model and policy of the
configuration, and the noise of the engine's labels if it is known. What it leaves out: labels of
earlier runs, and a baseline, which is closer to xTB than to the engine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ase import Atoms

from otf.config import Config
from otf.config.engine_section import EngineSection
from otf.config.replicas import Replicas
from otf.config.schema import Output, Stop
from otf.driver.records import Segment
from otf.errors import EngineError, RunError
from otf.postprocess.noisy_engine import NoisyEngine
from otf.runs.assemble import make_engine
from otf.runs.create import write_run
from otf.runs.directory import read_run
from otf.runs.earlier import EarlierLabels, labels_of
from otf.runs.session import open_session

_UNCERTAIN = 1.25  # factor by which the engine's own labels may be more or fewer

Progress = Callable[[int, int, int], None]
"""Called with the number of the simulation, its step and its labels."""


@dataclass(frozen=True)
class Estimate:
    """Labels that a run will take.

    Attributes
    ----------
    method
        In the place of the engine.
    steps
        Steps of the run.
    simulated, labels
        Steps of each simulation, and its labels.
    lowest, highest
        Labels to expect in the run.
    replica
        Labels that a replica beside it would add: those of a simulation with another seed, which
        starts with the labels of the first one.
    """

    method: str
    steps: int
    simulated: tuple[int, ...]
    labels: tuple[int, ...]
    lowest: int
    highest: int
    replica: int


def estimate(
    config: Config,
    atoms: Atoms,
    *,
    steps: int,
    seeds: int,
    noise: float | None,
    progress: Progress,
) -> Estimate:
    """Simulate the beginning of a run several times, and extrapolate its labels.

    Parameters
    ----------
    atoms
        The starting structure.
    steps
        Steps to simulate, at most.
    seeds
        Number of simulations; the first has the seed of the configuration.
    noise
        Mean absolute noise of the engine's forces, eV/Angstrom, if it is known.

    Raises
    ------
    RunError
        If xTB cannot compute such structures.
    """
    total = config.dynamics.total_steps
    steps = min(steps, total)
    cheap, method = _at_cheap_level(config, atoms)
    atoms = atoms.copy()
    if atoms.cell.rank == 3 and atoms.pbc.any():  # tblite is periodic in all directions or in none
        atoms.pbc = True
    found = list[_Simulation]()
    for number in range(seeds + 1):  # the last one is a replica of the first
        dynamics = cheap.dynamics.model_copy(update={"seed": cheap.dynamics.seed + number})
        own = cheap.model_copy(update={"dynamics": dynamics})
        earlier = found[0].labels if number == seeds else None
        try:
            course = _simulated(
                own,
                atoms,
                noise=noise,
                steps=steps,
                progress=lambda *at, n=number: progress(n, *at),
                earlier=earlier,
            )
        except EngineError as error:
            raise RunError(f"no estimate: {method} cannot do this system ({error})") from error
        found.append(course)
    *single, replica = [_extrapolated(one.course, total) for one in found]
    return Estimate(
        method,
        total,
        tuple(one.course[-1][0] for one in found[:-1]),
        tuple(one.course[-1][1] for one in found[:-1]),
        round(min(single) / _UNCERTAIN),
        round(max(single) * _UNCERTAIN),
        round(replica),
    )


def _at_cheap_level(config: Config, atoms: Atoms) -> tuple[Config, str]:
    """The configuration with xTB as the only engine, and without a baseline."""
    method = "GFN1-xTB" if atoms.pbc.any() else "GFN2-xTB"
    return config.model_copy(
        update={
            "engine": EngineSection.model_validate({"kind": "tblite", "method": method}),
            "model": config.model.model_copy(update={"baseline": []}),
            "policy": config.policy.model_copy(update={"labels_at_once": 1}),
            "learn_from": [],
            "replicas": Replicas(),
            "stop": Stop(),
            "output": Output(every=1000),
        }
    ), method


class _Simulation(NamedTuple):
    """Steps and numbers of labels in the course of a run, and its labels."""

    course: list[tuple[int, int]]
    labels: EarlierLabels


def _simulated(
    config: Config,
    atoms: Atoms,
    *,
    noise: float | None,
    steps: int,
    progress: Callable[[int, int], None],
    earlier: EarlierLabels | None,
) -> _Simulation:
    course = [(0, 0)]
    with TemporaryDirectory(prefix="otf-estimate-") as folder:
        known = [] if earlier is None else [earlier]
        made = write_run(config, atoms, Path(folder) / "run", earlier=known)
        run, config, atoms = read_run(made.path)
        engine = make_engine(config)
        engine = engine if noise is None else NoisyEngine(engine, noise)
        with open_session(run, config, atoms, engine=engine) as session:
            for record in session.records():
                if isinstance(record, Segment):
                    course.append((record.state.step, record.state.trainer.n_labels))
                    progress(*course[-1])
                    if course[-1][0] >= steps:
                        break
        return _Simulation(
            course, EarlierLabels("simulation", config.dynamics.timestep_fs, labels_of(run))
        )


def _extrapolated(course: list[tuple[int, int]], total: int) -> float:
    """Labels in all steps, if they come on as in the later half of the course.

    >>> _extrapolated([(0, 0), (100, 20), (200, 30)], 400)
    50.0
    """
    step, labels = course[-1]
    middle = next(at for at in course if at[0] >= step / 2)
    rate = (labels - middle[1]) / max(1, step - middle[0])
    return labels + rate * max(0, total - step)

"""Training of the prior mean of a run: a model of a cheap engine, by a simulation with it.

The simulation has the dynamics of the run. Its labels, and those of frames of its trajectory, are
what a model of the cheap engine is fitted to. It is trained once, before the first step; a resumed
run reads it.
"""

import logging
from contextlib import closing

import numpy as np
from ase import Atoms

from otf.config import Config
from otf.config.dynamics import Dynamics
from otf.driver.loop import drive
from otf.driver.records import Segment
from otf.engines.labels import Labels
from otf.errors import RunError
from otf.io.committed import Frame
from otf.io.labels import LabelFile
from otf.learning.baseline import EngineTerm
from otf.learning.fit import learn_all
from otf.learning.force_model import ForceModel
from otf.learning.model_file import read_model, write_model
from otf.runs.assemble import make_parts, make_trainer
from otf.runs.directory import RunDirectory
from otf.runs.signals import asked_to_stop

_LOG = logging.getLogger("otf.baseline")

_STEPS = 4000  # of the simulation, at most
_FRAMES = 150  # labelled in addition
_LEFT_OUT = 64  # of them, to choose the prior


def prior_mean(
    config: Config, run: RunDirectory, atoms: Atoms, number: int, engine: EngineTerm
) -> ForceModel:
    """The model of term ``number`` of the baseline, trained if it is not there yet.

    Parameters
    ----------
    atoms
        The starting structure.
    engine
        The term's engine.

    Raises
    ------
    RunError
        If a signal stopped the training; its labels are kept, and a resumed run continues it.
    EngineError
        If the cheap engine fails.
    """
    folder = run.prior_mean(number)
    file = folder / run.model.name
    if file.exists():
        return read_model(file)
    folder.mkdir(exist_ok=True)
    _LOG.info("model.baseline: training a model of %s as the prior mean", engine.name)
    alone = config.effective_model.model_copy(update={"baseline": []})
    simulation = config.model_copy(
        update={"model": alone, "dynamics": _shortened(config.dynamics), "learn_from": []}
    )
    data = _simulated(simulation, atoms.copy(), engine, LabelFile(folder / run.labels.name))
    trainer = make_trainer(alone, [a for a, _ in data], keep_blocks=_LEFT_OUT)
    order = np.random.default_rng(0).permutation(len(data))
    learn_all(trainer, [data[i] for i in order])
    write_model(file, trainer.force_model)
    return trainer.force_model


def _simulated(
    config: Config, atoms: Atoms, engine: EngineTerm, file: LabelFile
) -> list[tuple[Atoms, Labels]]:
    """The labels of a simulation, and those of frames that are spread over it."""
    start, frames = atoms.copy(), list[Frame]()
    with closing(file):
        parts = make_parts(config, atoms, engine.engine_for(atoms), file)
        for record in drive(parts):
            if asked_to_stop() is not None:
                raise RunError("stopped while the prior mean was trained; resume the run")
            if isinstance(record, Segment):
                frames += record.frames
        data = [(file[i].atoms, file[i].labels) for i in range(len(file))]
    rows = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int))
    for row in rows:
        atoms = Atoms(start.numbers, frames[row].positions, cell=frames[row].cell, pbc=start.pbc)
        data.append((atoms, engine.label(atoms)))
    return data


def _shortened(dynamics: Dynamics) -> Dynamics:
    """The dynamics of the simulation: molecular dynamics, and not longer than is useful."""
    changed: dict[str, object] = {}
    if dynamics.ensemble == "slhmc":
        changed["ensemble"] = "csvr"
    if not dynamics.stages:
        changed["steps"] = min(dynamics.total_steps, _STEPS)
    return dynamics.model_copy(update=changed)

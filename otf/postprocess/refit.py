"""A model fitted anew to all labels of a run, for production."""

from dataclasses import dataclass
from pathlib import Path

from otf.errors import RunError
from otf.learning.learning_curve import CurvePoint
from otf.learning.trainer import Trainer
from otf.runs.assemble import trainer_of
from otf.runs.baseline import baseline_of
from otf.runs.directory import read_run
from otf.runs.earlier import EarlierLabels, labels_of, read_earlier, taught
from otf.runs.noise import stored_noise

_FEWEST = 3  # labels


@dataclass(frozen=True, eq=False)
class Refitted:
    """A model that was fitted to all labels of a run.

    Attributes
    ----------
    trainer
        Holds the model.
    own, earlier
        Number of the labels of the run (with its replicas and audits), and of those it started
        with.
    curve
        Left-out errors with a part of the labels, and with all of them.
    """

    trainer: Trainer
    own: int
    earlier: int
    curve: list[CurvePoint]


def refit(path: Path) -> Refitted:
    """Choose size, ranges, order and prior anew by all labels of a run, and fit to all of them.

    During a run the model grows step by step, as the labels come; labels of audits made afterwards
    are unknown to it. The labels, other files of the run and its results are not changed.

    Raises
    ------
    FileError
        If it is not a run, or its labels are damaged.
    RunError
        If it has too few labels.
    """
    run, config, atoms = read_run(path)
    earlier, labels = read_earlier(run), labels_of(run)
    own = EarlierLabels(str(path), config.dynamics.timestep_fs, labels)
    known = taught([*earlier, own], atoms)
    if len(known) < _FEWEST:
        raise RunError(f"{path}: has {len(labels)} labels; a model needs {_FEWEST} or more")
    trainer = trainer_of(
        config,
        atoms,
        noise=stored_noise(run),
        earlier=known,
        baseline=baseline_of(config, run, atoms),
    )
    trainer.begin()
    return Refitted(trainer, len(labels), len(known) - len(labels), trainer.learning_curve())

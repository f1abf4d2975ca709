"""Removal of a label from a run: the model is learned anew from the others."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from otf.config import Config
from otf.driver.policy import UNTRIGGERED
from otf.driver.records import LabelRecord
from otf.errors import RunError
from otf.io.durable import sole_owner
from otf.io.labels import StoredLabel, append_frame, read_labels, write_labels
from otf.learning.model_file import write_model
from otf.learning.trainer import Trainer
from otf.runs.assemble import trainer_of
from otf.runs.baseline import baseline_of
from otf.runs.checkpoint import read_checkpoint, write_checkpoint
from otf.runs.directory import one_run, read_run
from otf.runs.earlier import read_earlier, taught
from otf.runs.noise import stored_noise


def drop_label(path: Path, index: int, *, reason: str) -> Path:
    """Take a label out of a run, and learn the others anew; the trajectory is kept.

    Parameters
    ----------
    reason
        Why, written beside the label.

    Returns
    -------
    The file that the label is kept in.

    Raises
    ------
    RunError
        If there is no such label, or the run cannot do without it.
    FileError
        If another process runs here.
    """
    run, config, atoms = read_run(one_run(path))
    with sole_owner(run.lock), closing(baseline_of(config, run, atoms)) as baseline:
        stored, found = read_labels(run.labels), read_checkpoint(run.checkpoint)
        _check(found.state.history, index, sampled=found.state.sampler is not None)
        rest = [label for label in stored if label.index != index]
        history = tuple(r for r in found.state.history if r.index != index)
        noise = stored_noise(run)
        trainer = trainer_of(
            config,
            atoms,
            noise=noise,
            earlier=taught(read_earlier(run), atoms),
            baseline=baseline,
        )
        trainer.begin()
        _learn(trainer, config, rest, history)
        renumbered = tuple(replace(r, index=i) for i, r in enumerate(history))
        state = replace(found.state, trainer=trainer.capture(), history=renumbered)
        append_frame(run.quarantine, stored[index], reason)
        write_labels(run.labels, rest)
        write_checkpoint(run.checkpoint, replace(found, state=state))
        write_model(run.model, trainer.force_model)
    return run.quarantine


def _check(history: tuple[LabelRecord, ...], index: int, *, sampled: bool) -> None:
    """Refuse a label that is not there or cannot be missed."""
    if sampled:
        raise RunError("the labels of hybrid Monte Carlo are its samples; start a new run")
    if not 0 <= index < len(history):
        raise RunError(f"there is no label {index}: the run has learned 0 to {len(history) - 1}")
    if index == 0 or len(history) < 3:
        raise RunError(
            "the first label and the last but one cannot be dropped: energies are relative to "
            "them; start a new run"
        )


def _learn(
    trainer: Trainer, config: Config, labels: list[StoredLabel], history: tuple[LabelRecord, ...]
) -> None:
    """Learn labels as the run did."""
    for label, record in zip(labels, history, strict=False):
        trainer.learn(
            label.atoms,
            label.labels,
            time_fs=label.step * config.dynamics.timestep_fs,
            audited=record.reason in UNTRIGGERED,
        )

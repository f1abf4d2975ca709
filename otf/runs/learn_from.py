"""Gathers the labels that a configuration asks for (``learn_from``), before a run is created."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from otf.config import Config
from otf.config.learn_from import LearnFrom
from otf.errors import ConfigError, FileError, OtfError
from otf.io.labels import StoredLabel, first_label
from otf.learning.fit import recorded_labels
from otf.learning.time_blocks import BLOCK_FS
from otf.runs.directory import RunDirectory, read_run
from otf.runs.earlier import EarlierLabels, differences, labels_of
from otf.runs.label_store import fitting_sets

_LOG = logging.getLogger("otf.store")

_LOOKED_AT = 20  # runs beside a new one


def gathered(config: Config, folder: Path, atoms: Atoms) -> list[EarlierLabels]:
    """Read and check the labels that a configuration asks for.

    Parameters
    ----------
    folder
        Folder that relative paths start from.
    atoms
        Starting structure of the run.

    Raises
    ------
    ConfigError
        If they cannot be read, or are not of the same engine settings.
    """
    found, problems = list[EarlierLabels](), []
    for number, source in enumerate(config.learn_from):
        try:
            if source.path is not None:
                found.append(_read(config, source, folder / source.path))
            else:
                assert source.store is not None
                found += _stored(config, folder / source.store, atoms)
            if config.model.sharing == "atom" and not all(_same_atoms(f, atoms) for f in found):
                raise FileError("has other atoms, and model.sharing: atom learns each by itself")
        except OtfError as error:
            problems.append(f"learn_from, entry {number + 1}: {error}")
    if problems:
        raise ConfigError(problems)
    return found


def absolute(sources: Iterable[LearnFrom], folder: Path) -> list[LearnFrom]:
    """The same with absolute paths, so that they mean the same in a run directory."""
    names = ("path", "store")
    return [
        source.model_copy(
            update={
                name: (folder / given).resolve()
                for name in names
                if (given := getattr(source, name)) is not None
            }
        )
        for source in sources
    ]


def _stored(config: Config, store: Path, atoms: Atoms) -> list[EarlierLabels]:
    found = fitting_sets(store, config, atoms)
    if not found:
        _LOG.warning(
            "learn_from: %s has no labels of this engine, its settings and these elements; the run "
            "starts from nothing (`otf store list --store %s` shows what there is)",
            store,
            store,
        )
    return found


def _read(config: Config, source: LearnFrom, path: Path) -> EarlierLabels:
    if not path.exists():
        raise FileError(f"{path}: is not there; relative paths start at the configuration")
    if path.is_dir():
        return _of_run(config, source, path)
    if not source.same_engine:
        raise FileError(
            f"{path}: does not say which engine computed it; if it was this one with these "
            f"settings, write {{path: {source.path}, same_engine: true}}"
        )
    try:
        frames = ase.io.read(path, ":")
    except Exception as error:  # ase.io raises whatever the format's reader raises
        raise FileError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    return EarlierLabels(
        str(path.resolve()), BLOCK_FS, [_of_frame(path, i, atoms) for i, atoms in enumerate(frames)]
    )


def _of_frame(path: Path, number: int, atoms: Atoms) -> StoredLabel:
    where = f"{path}, frame {number}"
    if atoms.cell.rank < np.count_nonzero(atoms.pbc):
        raise FileError(f"{where}: is periodic but has no cell; give it one")
    labels = replace(recorded_labels(atoms, where), provenance=path.name)
    return StoredLabel(number, number, _bare(atoms), labels)


def _of_run(config: Config, source: LearnFrom, path: Path) -> EarlierLabels:
    run, theirs, _ = read_run(path)
    if not source.same_engine and (other := differences(config, theirs)):
        raise FileError(
            f"{path}: its labels are of another {other}; they cannot be learned together. Its "
            "model can be the baseline: model.baseline: {kind: ase, calculator: "
            f"otf.learning.calculator:learned, keywords: {{path: {path.resolve()}}}}}. If they can "
            f"be, write {{path: {source.path}, same_engine: true}}"
        )
    labels = labels_of(run)
    if not labels:
        raise FileError(f"{path}: has no labels yet; leave it out")
    return EarlierLabels(str(path.resolve()), theirs.dynamics.timestep_fs, labels)


def fitting_runs(config: Config, run: RunDirectory) -> Iterator[Path]:
    """Runs beside a new one whose labels it could start with: same engine settings, its elements.

    Of those beside it, the latest few are looked at.
    """
    atoms = ase.io.read(run.structure)
    beside = [p.parent for p in run.path.parent.glob(f"*/{run.config.name}") if p != run.config]
    for path in sorted(beside, key=lambda p: p.stat().st_mtime, reverse=True)[:_LOOKED_AT]:
        try:
            other, theirs, _ = read_run(path)
            label = first_label(other.labels).atoms if other.labels.exists() else None
            fits = label is not None and set(atoms.numbers) <= set(label.numbers)
            if fits and not differences(config, theirs):
                yield path
        except (OtfError, OSError):  # of no interest here
            continue


def _same_atoms(earlier: EarlierLabels, atoms: Atoms) -> bool:
    return all(np.array_equal(s.atoms.numbers, atoms.numbers) for s in earlier.labels)


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)

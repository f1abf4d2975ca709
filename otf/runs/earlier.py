"""Labels of earlier runs that a run starts with (``learn_from``).

They are copied into the run directory, so that it remains complete. Labels of the same engine
settings are learned like the run's own: of other sizes, temperatures or compositions, at any time
before. Energies of another composition count from another zero and are left out; its forces are
learned.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from otf.config import Config
from otf.config.learn_from import LearnFrom
from otf.engines.digest import engine_digest
from otf.engines.registry import load_engine
from otf.errors import ConfigError, FileError, OtfError
from otf.io.durable import replace_file
from otf.io.labels import StoredLabel, first_label, read_labels, write_labels
from otf.learning.fit import recorded_labels
from otf.learning.regression import Taught
from otf.learning.time_blocks import BLOCK_FS
from otf.runs.directory import RunDirectory, read_run

_SOURCES = "sources.json"
_LOOKED_AT = 20  # runs beside a new one


@dataclass(frozen=True, eq=False)
class EarlierLabels:
    """Labels of one source, in the order of time.

    Attributes
    ----------
    of
        The run directory or file they come from.
    timestep_fs
        Time between steps.
    """

    of: str
    timestep_fs: float
    labels: list[StoredLabel]


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
    found, problems = [], []
    for number, source in enumerate(config.learn_from):
        try:
            found.append(_read(config, source, folder / source.path))
            if config.model.sharing == "atom" and not _same_atoms(found[-1], atoms):
                raise FileError(
                    f"{source.path}: has other atoms, and model.sharing: atom learns each by itself"
                )
        except OtfError as error:
            problems.append(f"learn_from, entry {number + 1}: {error}")
    if problems:
        raise ConfigError(problems)
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
            f"{path}: its labels are of another {other}; they cannot be learned together (if "
            f"they can, write {{path: {source.path}, same_engine: true}})"
        )
    labels = labels_of(run)
    if not labels:
        raise FileError(f"{path}: has no labels yet; leave it out")
    return EarlierLabels(str(path.resolve()), theirs.dynamics.timestep_fs, labels)


def labels_of(run: RunDirectory) -> list[StoredLabel]:
    """The labels of a run, of its replicas and of its audits, in the order of time."""
    files = [run.labels, run.audit, *sorted(run.path.glob("replica-*/labels.extxyz"))]
    labels = [label for file in files if file.exists() for label in read_labels(file)]
    return sorted(labels, key=lambda label: label.step)


def differences(one: Config, other: Config) -> str:
    """What of two configurations makes their labels different; empty if nothing does.

    Raises
    ------
    EngineError
        If an engine is not installed, or an input file cannot be read.
    """
    if one.engine.kind != other.engine.kind:
        return f"engine ({other.engine.kind})"
    if _digest(one) != _digest(other):
        return "method: the settings of their engines differ"
    for name in ("charge", "spin"):
        if getattr(one.system, name) != getattr(other.system, name):
            return f"{name} ({getattr(other.system, name)})"
    return ""


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


def _digest(config: Config) -> str:
    engine = load_engine(config.engine.kind)
    return engine_digest(engine, engine.Options.model_validate(config.engine.options))


def write_earlier(run: RunDirectory, earlier: Sequence[EarlierLabels]) -> None:
    """Keep labels of earlier runs in a run directory.

    Raises
    ------
    OSError, FileError
        If they cannot be written.
    """
    if not earlier:
        return
    run.earlier.mkdir(exist_ok=True)
    for number, source in enumerate(earlier):
        write_labels(_file(run, number), source.labels)
    rows = [{"of": source.of, "timestep_fs": source.timestep_fs} for source in earlier]
    text = json.dumps(rows)
    replace_file(run.earlier / _SOURCES, lambda aside: aside.write_text(text, encoding="utf-8"))


def read_earlier(run: RunDirectory) -> list[EarlierLabels]:
    """The labels of earlier runs that a run started with.

    Raises
    ------
    FileError
        If they are damaged.
    """
    index = run.earlier / _SOURCES
    if not index.exists():
        return []
    try:
        rows = json.loads(index.read_text(encoding="utf-8"))
        return [
            EarlierLabels(row["of"], row["timestep_fs"], read_labels(_file(run, number)))
            for number, row in enumerate(rows)
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{index}: cannot be read ({error}); restore it from a backup") from error


def taught(earlier: Sequence[EarlierLabels], atoms: Atoms) -> list[Taught]:
    """Labels of earlier runs as a run of these atoms learns them.

    Each source is a trajectory of its own, with a negative number.
    """
    out = []
    for number, source in enumerate(earlier, start=1):
        for stored in source.labels:
            labels = stored.labels
            if not _same_composition(stored.atoms, atoms):
                labels = replace(labels, level=labels.energy, atomic_energies=None)
            out.append(Taught(stored.atoms, labels, stored.step * source.timestep_fs, -number))
    return out


def _same_composition(one: Atoms, other: Atoms) -> bool:
    """Whether the species have the same shares, so that energies per atom have the same zero."""
    mine, theirs = (np.bincount(a.numbers, minlength=120) / len(a) for a in (one, other))
    return np.allclose(mine, theirs)


def _same_atoms(earlier: EarlierLabels, atoms: Atoms) -> bool:
    return all(np.array_equal(s.atoms.numbers, atoms.numbers) for s in earlier.labels)


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _file(run: RunDirectory, number: int) -> Path:
    return run.earlier / f"{number}.extxyz"

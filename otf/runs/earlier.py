"""Labels of earlier runs in a run directory, and as they are learned.

They are copied there, so that it remains complete. Labels of the same engine
settings are learned like the run's own: of other sizes, temperatures or compositions, at any time
before. Energies of another composition count from another zero and are left out; its forces are
learned.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.config import Config
from otf.engines.digest import engine_digest
from otf.engines.registry import load_engine
from otf.errors import FileError
from otf.io.durable import replace_file
from otf.io.labels import StoredLabel, read_labels, write_labels
from otf.learning.regression import Taught
from otf.runs.directory import RunDirectory

_SOURCES = "sources.json"


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
    if digest_of(one) != digest_of(other):
        return "method: the settings of their engines differ"
    for name in ("charge", "spin"):
        if getattr(one.system, name) != getattr(other.system, name):
            return f"{name} ({getattr(other.system, name)})"
    return ""


def digest_of(config: Config) -> str:
    """Digest of the engine of a configuration; see :func:`otf.engines.digest.engine_digest`."""
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


def _file(run: RunDirectory, number: int) -> Path:
    return run.earlier / f"{number}.extxyz"

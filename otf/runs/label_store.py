"""A store of labels: sets of labels in folders, one for the same settings of an engine.

::

    STORE/DIGEST/NAME-0123abcd.extxyz    labels of a run that were not in the store before
    STORE/DIGEST/NAME-0123abcd.json      what they are; written last: a set without it is not read

Nothing is changed once it is written: writers and readers, also on other machines, need no lock.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.config import Config
from otf.errors import FileError
from otf.io.durable import replace_file
from otf.io.labels import StoredLabel, read_labels, write_labels
from otf.runs.directory import read_run
from otf.runs.earlier import EarlierLabels, digest_of, labels_of

_LOG = logging.getLogger("otf.store")


@dataclass(frozen=True)
class LabelSet:
    """What the index of a store says of a set of labels.

    Attributes
    ----------
    of
        The run they come from.
    engine, digest
        Kind of the engine, and digest of its settings.
    elements, largest
        Elements of the structures, and number of atoms of the largest.
    timestep_fs
        Time between the steps of the run.
    """

    of: str
    engine: str
    digest: str
    charge: int
    spin: int
    labels: int
    elements: list[str]
    largest: int
    temperature_K: float
    timestep_fs: float


def add_run(path: Path, store: Path) -> int:
    """Add the labels of a run that are not in the store yet; returns their number.

    Raises
    ------
    FileError
        If it is not a run, or the store cannot be written.
    """
    run, config, _ = read_run(path)
    digest = digest_of(config)
    folder = store / digest
    known = {_key(label) for file, _ in _sets(folder) for label in read_labels(file)}
    new = [label for label in labels_of(run) if _key(label) not in known]
    if not new:
        return 0
    hottest = max(stage.temperature_K for stage in config.dynamics.staged().values())
    row = LabelSet(
        of=str(path.resolve()),
        engine=config.engine.kind,
        digest=digest,
        charge=config.system.charge,
        spin=config.system.spin,
        labels=len(new),
        elements=sorted({symbol for label in new for symbol in label.atoms.symbols}),
        largest=max(len(label.atoms) for label in new),
        temperature_K=hottest,
        timestep_fs=config.dynamics.timestep_fs,
    )
    name = hashlib.sha256(b"".join(_key(label) for label in new)).hexdigest()[:8]
    file = folder / f"{path.resolve().name}-{name}.extxyz"
    text = json.dumps(asdict(row), indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_labels(file, new)
        replace_file(
            file.with_suffix(".json"), lambda aside: aside.write_text(text, encoding="utf-8")
        )
    except OSError as error:
        raise FileError(
            f"{file}: cannot be written ({error.strerror}); choose another store (--store, or the "
            "variable OTF_STORE)"
        ) from error
    return len(new)


def stored_sets(store: Path) -> list[tuple[Path, LabelSet]]:
    """Files and index entries of all sets; damaged ones are warned of and left out."""
    folders = sorted(store.glob("*")) if store.is_dir() else []
    return [found for folder in folders for found in _sets(folder)]


def fitting_sets(store: Path, config: Config, atoms: Atoms) -> list[EarlierLabels]:
    """Labels of the same engine and settings whose elements are all in the system."""
    mine = set(atoms.symbols)
    return [
        EarlierLabels(str(file), row.timestep_fs, read_labels(file))
        for file, row in _sets(store / digest_of(config))
        if mine.issuperset(row.elements)
        and (row.charge, row.spin) == (config.system.charge, config.system.spin)
    ]


def _sets(folder: Path) -> Iterator[tuple[Path, LabelSet]]:
    for index in sorted(folder.glob("*.json")):
        try:
            row = LabelSet(**json.loads(index.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            _LOG.warning("%s: left out, since it cannot be read (%s)", index, error)
            continue
        file = index.with_suffix(".extxyz")
        if file.exists():
            yield file, row
        else:
            _LOG.warning("%s: left out, since %s is missing", index, file.name)


def _key(label: StoredLabel) -> bytes:
    """Digest of the structure of a label."""
    atoms = label.atoms
    parts = (np.asarray(atoms.numbers, dtype=np.int64), atoms.positions, atoms.cell.array)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()

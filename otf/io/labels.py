"""``labels.extxyz``: every computed label of a run, appended and synced before it is used.

Any program that reads extended XYZ can train on it. Numbers are written such that reading restores
them exactly; ASE's own writer keeps eight decimals, too few for an exact resume.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from otf.engines.labels import Labels
from otf.errors import FileError
from otf.io import durable

_LOG = logging.getLogger("otf.labels")


QUARANTINE = "labels.quarantine.extxyz"
"""Labels that were computed and are not learned, each with the reason, beside the labels file."""


@dataclass(frozen=True, eq=False)
class StoredLabel:
    """A label with its structure, index and step, and why it is not learned, if it is not."""

    index: int
    step: int
    atoms: Atoms
    labels: Labels
    reason: str = ""


class LabelFile:
    """The labels of a run, in the order they were computed.

    Parameters
    ----------
    path
        ``labels.extxyz``; labels already there are read, and a last frame left incomplete by a
        kill (never acknowledged, so never used) is removed.

    Raises
    ------
    FileError
        If the file is damaged other than at its end.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self._stored = _recover(path) if path.exists() else []
        self._quarantine = path.with_name(QUARANTINE)
        self._stream = path.open("ab", buffering=0)
        durable.sync_directory(path.parent)

    def close(self) -> None:
        """Release the file."""
        self._stream.close()

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> StoredLabel:
        return self._stored[index]

    def find(self, index: int, step: int, atoms: Atoms) -> Labels | None:
        """The stored label of this index, if it has exactly this geometry.

        A label of another geometry (the trajectory has diverged since) is moved, with all that
        follow it, to ``labels.unused.extxyz``: no label is deleted.
        """
        if index >= len(self._stored):
            return None
        stored = self._stored[index]
        if stored.step == step and same_geometry(stored.atoms, atoms):
            return stored.labels
        self._set_aside(index)
        return None

    def _set_aside(self, index: int) -> None:
        text = self.path.read_bytes()
        keep = _frame_ends(text)[index - 1] if index else 0
        unused = self.path.with_name("labels.unused.extxyz")
        _LOG.warning("labels from %d on are of another trajectory; moved to %s", index, unused)
        with unused.open("ab", buffering=0) as stream:
            durable.append(stream, text[keep:])
        os.truncate(self.path, keep)
        del self._stored[index:]

    def append(self, step: int, atoms: Atoms, labels: Labels) -> None:
        """Write one label and wait until it is on the disk.

        Raises
        ------
        FileError
            If the file cannot be written.
        """
        try:
            durable.append(self._stream, format_frame(len(self), step, atoms, labels).encode())
        except OSError as error:
            raise FileError(
                f"{self.path}: cannot be written ({error.strerror}); make room or repair the "
                "file system, then resume the run"
            ) from error
        frozen = atoms.copy()
        self._stored.append(StoredLabel(len(self._stored), step, frozen, labels))

    @cached_property
    def _refused(self) -> list[StoredLabel]:
        return _recover(self._quarantine) if self._quarantine.exists() else []

    def refusal(self, step: int, atoms: Atoms) -> str:
        """Why the label of exactly this geometry is not learned; empty if there is none."""
        for stored in self._refused:
            if stored.step == step and same_geometry(stored.atoms, atoms):
                return stored.reason
        return ""

    def refuse(self, step: int, atoms: Atoms, labels: Labels, reason: str) -> None:
        """Keep a label that is not learned apart, in a file of its own.

        Raises
        ------
        FileError
            If the file cannot be written.
        """
        refused = StoredLabel(len(self._refused), step, atoms.copy(), labels, reason)
        append_frame(self._quarantine, refused, reason)
        self._refused.append(refused)


def append_frame(path: Path, label: StoredLabel, reason: str) -> None:
    """Append a label to a file of labels that are not learned.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    text = format_frame(label.index, label.step, label.atoms, label.labels, reason=reason)
    try:
        with path.open("ab", buffering=0) as stream:
            durable.append(stream, text.encode())
    except OSError as error:
        raise FileError(
            f"{path}: cannot be written ({error.strerror}); make room or repair the file system, "
            "then resume the run"
        ) from error


def write_labels(path: Path, labels: Sequence[StoredLabel]) -> None:
    """Replace a file of labels, numbered in this order.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    frames = [format_frame(i, s.step, s.atoms, s.labels) for i, s in enumerate(labels)]
    durable.replace_file(path, lambda aside: aside.write_text("".join(frames), encoding="utf-8"))


def same_geometry(one: Atoms, other: Atoms) -> bool:
    """Whether positions and cell are exactly equal."""
    return np.array_equal(one.positions, other.positions) and np.array_equal(
        one.cell.array, other.cell.array
    )


def format_frame(index: int, step: int, atoms: Atoms, labels: Labels, *, reason: str = "") -> str:
    """One extended XYZ frame whose numbers are restored exactly on reading."""
    info: dict[str, Any] = {
        "Properties": "species:S:1:pos:R:3:forces:R:3",
        "energy": repr(float(labels.energy)),
        "pbc": '"' + " ".join("T" if p else "F" for p in atoms.pbc) + '"',
        "label": index,
        "step": step,
        "wall_s": f"{labels.wall_s:.3f}",
        # ASE misreads all that follows an empty value.
        "provenance": '"' + (labels.provenance.replace('"', "'") or "unknown") + '"',
    }
    if atoms.cell.rank:
        info["Lattice"] = _quoted(atoms.cell.array)
    if labels.stress is not None:
        info["stress"] = _quoted(labels.stress)
    if labels.scf_iterations is not None:
        info["scf_iterations"] = labels.scf_iterations
    if labels.level:
        info["level_eV"] = repr(float(labels.level))
    if reason:
        info["not_learned"] = '"' + reason.replace('"', "'") + '"'
    columns = [atoms.positions, labels.forces]
    if labels.atomic_energies is not None:
        info["Properties"] += ":energies:R:1"
        columns.append(labels.atomic_energies[:, None])
    lines = [str(len(atoms)), " ".join(f"{k}={v}" for k, v in info.items())]
    for symbol, row in zip(atoms.symbols, np.hstack(columns).tolist(), strict=True):
        lines.append(" ".join([f"{symbol:<2}", *(f"{x!r:>23}" for x in row)]))
    return "\n".join(lines) + "\n"


def _quoted(matrix: np.ndarray) -> str:
    return '"' + " ".join(repr(x) for x in matrix.ravel().tolist()) + '"'


def _recover(path: Path) -> list[StoredLabel]:
    """Complete labels of the file, which is truncated after the last of them."""
    text = path.read_bytes()
    ends = _frame_ends(text)
    complete = ends[-1] if ends else 0
    if b"\n" in text[complete:] and _has_more_frames(text[complete:]):
        raise FileError(f"{path}: damaged at byte {complete}; restore the file from a backup")
    if complete < len(text):  # killed during a write; the bytes are kept all the same
        torn = path.with_name("labels.torn.extxyz")
        with torn.open("ab", buffering=0) as stream:
            durable.append(stream, text[complete:])
        _LOG.warning("the last label of %s is incomplete; its bytes are in %s", path, torn.name)
        os.truncate(path, complete)
    return _parsed(path, text[:complete])


def read_labels(path: Path) -> list[StoredLabel]:
    """Read the complete labels of a file, also during a run, without changing it.

    Raises
    ------
    FileError
        If it does not exist, has no complete label, or is damaged.
    """
    if not path.exists():
        raise FileError(f"{path}: does not exist; a run writes it at its first label")
    return _first_labels(path, None)


def first_label(path: Path) -> StoredLabel:
    """Read the first label of a file.

    Raises
    ------
    FileError
        If it has no complete label, or is damaged.
    """
    return _first_labels(path, 1)[0]


def _first_labels(path: Path, count: int | None) -> list[StoredLabel]:
    """So many of the complete labels of a file, or all."""
    text = path.read_bytes()
    ends = _frame_ends(text)[:count]
    if not ends:
        raise FileError(f"{path}: holds no complete label of otf")
    return _parsed(path, text[: ends[-1]])


def _parsed(path: Path, text: bytes) -> list[StoredLabel]:
    if not text:
        return []
    try:
        frames = ase.io.read(StringIO(text.decode()), index=":", format="extxyz")
        return [_stored(a) for a in frames]
    except (OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise FileError(f"{path}: cannot be read ({error}); restore it from a backup") from error


def _frame_ends(text: bytes) -> list[int]:
    """Byte offsets of the ends of the complete frames."""
    ends: list[int] = []
    start = 0
    while (line_end := text.find(b"\n", start)) >= 0:
        count = text[start:line_end].strip()
        if not count.isdigit():
            break
        for _ in range(int(count) + 1):
            line_end = text.find(b"\n", line_end + 1)
            if line_end < 0:
                return ends
        start = line_end + 1
        ends.append(start)
    return ends


def _has_more_frames(tail: bytes) -> bool:
    """Whether another frame follows the damaged one, which is then not merely an incomplete end."""
    lines = tail.split(b"\n")[1:]
    return any(line.strip().isdigit() for line in lines)


def _stored(atoms: Atoms) -> StoredLabel:
    info = atoms.info
    results = atoms.calc.results
    stress = info.get("stress", results.get("stress"))
    if stress is not None and np.shape(stress) != (3, 3):
        s = np.asarray(stress, dtype=float).reshape(-1)
        stress = s[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3) if s.size == 6 else s.reshape(3, 3)
    iterations = info.get("scf_iterations")
    labels = Labels(
        energy=float(results["energy"]),
        forces=np.asarray(results["forces"], dtype=float),
        stress=stress,
        atomic_energies=results.get("energies"),
        scf_iterations=None if iterations is None else int(iterations),
        wall_s=float(info["wall_s"]),
        provenance=str(info["provenance"]),
        level=float(info.get("level_eV", 0.0)),
    )
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    reason = str(info.get("not_learned", ""))
    return StoredLabel(int(info["label"]), int(info["step"]), bare, labels, reason)

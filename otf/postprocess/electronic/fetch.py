"""Matrices of labels that were kept without: the engine computes them again."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from otf.engines.labels import LabelFailure
from otf.errors import RunError
from otf.io.durable import sole_owner
from otf.io.labels import StoredLabel, read_labels
from otf.io.matrices import LabelMatrices, write_matrices
from otf.io.orbitals import write_orbitals
from otf.runs.assemble import make_engine, with_matrices
from otf.runs.directory import one_run, read_run

_FORCES_EV_A = 0.02  # a label computed again that differs by more is of other settings


class Fetch:
    """Labels of a run that have no matrices, computed again by its engine.

    Parameters
    ----------
    path
        Run directory.
    count
        Number of labels, spread over the run; None for all.

    Raises
    ------
    RunError
        If the engine has no matrices, or there is nothing to do.
    """

    def __init__(self, path: Path, *, count: int | None) -> None:
        self._run, config, self._start = read_run(one_run(path))
        self._config = with_matrices(config)
        labels = read_labels(self._run.labels)
        if count is not None and count < len(labels):
            chosen = np.unique(np.linspace(0, len(labels) - 1, count).astype(int))
            labels = [labels[k] for k in chosen]
        self._missing = [label for label in labels if not self._file(label).exists()]
        if not self._missing:
            raise RunError(f"{path}: all of these labels have their matrices")

    def __len__(self) -> int:
        """Number of labels to compute."""
        return len(self._missing)

    def labels(self) -> Iterator[StoredLabel]:
        """Each label, as its matrices are written; an interrupted fetch continues there.

        Raises
        ------
        RunError
            If the engine does not compute a label, or with other forces than in the run.
        FileError
            If a file cannot be written, or another process fetches for this run.
        """
        folder = self._run.matrices
        folder.mkdir(exist_ok=True)
        engine = make_engine(self._config)
        with (
            sole_owner(folder / "fetch.lock"),
            TemporaryDirectory(prefix="otf-fetch-") as scratch,
            closing(engine),
        ):
            engine.open(self._start, Path(scratch))
            for number, label in enumerate(self._missing):
                answer = engine.label(label.atoms, index=number)
                if isinstance(answer, LabelFailure):
                    raise RunError(
                        f"label {label.index}: not computed: {answer.reason}. {answer.advice}"
                    )
                off = float(np.abs(answer.forces - label.labels.forces).max())
                if off > _FORCES_EV_A:
                    raise RunError(
                        f"label {label.index}: its forces differ by {off:.3f} eV/A from those in "
                        "the run: the engine or its files have changed since; restore them"
                    )
                matrices = engine.matrices()
                if matrices is None:
                    raise RunError(f"label {label.index}: the engine gave no matrices; see its log")
                if matrices.orbitals is not None and not self._run.orbitals.exists():
                    write_orbitals(self._run.orbitals, matrices.basis, matrices.orbitals)
                found = LabelMatrices(label.atoms, matrices, "scratch", None, {})
                write_matrices(self._file(label), found)
                yield label

    def _file(self, label: StoredLabel) -> Path:
        return self._run.matrices / f"{label.index:06d}.h5"

"""Matrices by one step of an engine, without self-consistency, from learned density matrices.

The density matrix of a learned Hamiltonian is given to the engine, which computes the Hamiltonian
of this density. Source: Tang et al., arXiv:2406.17561 (2024), where the density matrix is learned.
"""

import functools
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase import Atoms

from otf.config import Config
from otf.electrons.density.through_matrix import OrbitalValues, density_on
from otf.electrons.filling import Filling
from otf.electrons.learned_matrices import ElectronicStructure
from otf.engines.labels import LabelFailure
from otf.engines.protocol import DensityGuess, Engine
from otf.errors import FileError, RunError
from otf.io.frames import Frames
from otf.postprocess.electronic.learned_matrices import (
    LearnedFromRun,
    MatrixSource,
    Quantity,
    in_words,
)
from otf.runs.assemble import make_engine, with_matrices

_LOOKED_AT = 3  # structures whose changes and labels left out whose errors are given
_SAME = 0.02  # overlaps; they may be learned


class OneStep:
    """Matrices by one step of an engine from the densities of other ones.

    Parameters
    ----------
    source
        The other ones, which are learned.
    engine
        An opened engine.
    """

    def __init__(self, source: MatrixSource, engine: Engine) -> None:
        self._source = source
        self._engine = engine
        self._count = 0
        self._orbitals: OrbitalValues | None = None
        with suppress(FileError):  # only some engines need the density in real space
            self._orbitals = source.orbitals()
        self._changes: list[tuple[ElectronicStructure, ElectronicStructure]] = []

    @property
    def filling(self) -> Filling:
        """See :class:`~otf.postprocess.electronic.learned_matrices.MatrixSource`."""
        return self._source.filling

    def of(self, atoms: Atoms) -> ElectronicStructure:
        """The electronic structure of atoms.

        Raises
        ------
        RunError
            If the engine fails or has another basis.
        """
        learned = self._source.of(atoms)
        found = self._after_step(learned)
        if len(self._changes) < _LOOKED_AT:
            self._changes.append((learned, found))
        return found

    def note(self, frames: Frames, *quantities: Quantity) -> str:
        """Errors of quantities before the step and changes by it; errors after it if known."""
        changes = [
            [q.error(q.of(found), q.of(learned), learned.atoms) for learned, found in self._changes]
            for q in quantities
        ]
        text = (
            f"by one step of {self._engine.kind} from the density "
            f"{self._source.note(frames, *quantities)}; changed by the step: "
            f"{in_words(quantities, [float(np.mean(each)) for each in changes])}"
        )
        if isinstance(self._source, LearnedFromRun):
            errors = self._left_out_errors(self._source, quantities)
            text += f"; left-out error after the step {in_words(quantities, errors)}"
        return text

    def orbitals(self) -> OrbitalValues:
        """See :class:`~otf.postprocess.electronic.learned_matrices.MatrixSource`."""
        return self._source.orbitals()

    def _left_out_errors(
        self, source: LearnedFromRun, quantities: tuple[Quantity, ...]
    ) -> list[float]:
        """Mean errors at labels left out; NaN if the others do not reach any of them."""
        errors: list[list[float]] = [[] for _ in quantities]
        for label in source.left_out[:_LOOKED_AT]:
            try:
                learned = source.trial.of(label.atoms)
            except RunError:  # its atoms are farther apart than those of the other labels
                continue
            found = self._after_step(learned)
            for quantity, each in zip(quantities, errors, strict=True):
                each.append(quantity.error(quantity.of(found), quantity.true(label), label.atoms))
        return [float(np.mean(each or np.nan)) for each in errors]

    def _after_step(self, learned: ElectronicStructure) -> ElectronicStructure:
        """The electronic structure with the Hamiltonian of its density."""
        density, values = learned.density, None
        if self._orbitals is not None:
            values = functools.partial(density_on, density, self._orbitals)
        guess = DensityGuess(density, values)
        found = self._engine.one_step(learned.atoms, index=self._count, guess=guess)
        self._count += 1
        if isinstance(found, LabelFailure):
            raise RunError(f"no Hamiltonian: {found.reason}. {found.advice}")
        known, own = learned.overlap, found.overlap
        off = own.on(known.pairs).values - known.values
        if np.abs(off).max() > _SAME:
            raise RunError(
                f"the basis of engine '{self._engine.kind}' has other functions than that of the "
                "learned matrices: give the configuration that they were computed with"
            )
        return replace(learned, hamiltonian=found.hamiltonian, overlap=own)


@contextmanager
def one_step(source: MatrixSource, config: Config, atoms: Atoms) -> Iterator[OneStep]:
    """Open the engine of a configuration for structures like ``atoms``, and close it at the end.

    Raises
    ------
    RunError
        If the engine has no Hamiltonian to give.
    EngineError
        If it cannot be opened.
    """
    engine = make_engine(with_matrices(config))
    with TemporaryDirectory(prefix="otf-step-") as scratch, closing(engine):
        engine.open(atoms, Path(scratch))
        yield OneStep(source, engine)

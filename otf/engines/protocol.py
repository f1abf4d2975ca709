"""The interface between otf and the programs that compute energies and forces.

otf imports no engine. It finds them by the entry-point group ``otf.engines``
(:mod:`otf.engines.registry`), where each entry is a class derived from :class:`Engine`.
:mod:`otf.engines.contract` holds the tests such a class must pass.
"""

import shutil
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from ase import Atoms
from pydantic import BaseModel

from otf.arrays import Floats
from otf.engines.job import InputJob
from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.errors import EngineError
from otf.orbitals.block_matrices import BlockMatrix, Matrices
from otf.orbitals.grids import Grid


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do with its options, known before anything is computed.

    Attributes
    ----------
    periodic
        Accepts periodic boundary conditions.
    stress
        Returns the stress of a periodic structure.
    atomic_energies
        Splits the energy into atoms.
    level
        Kind of method: ``"DFT"``, ``"semi-empirical"``, ``"force field"``, …
    matrices
        Returns Hamiltonian, overlap and density matrix of each label, and starts labels from
        initial density guesses.
    force_check
        Returns the forces of a learned density matrix without self-consistency.
    grid
        Labels depend on where the atoms are relative to a grid in real space.
    """

    periodic: bool
    stress: bool
    atomic_energies: bool
    level: str
    matrices: bool = False
    force_check: bool = False
    grid: bool = False


WarmStart = Literal["auto", "previous", "extrapolate", "learned"]
"""Initial density of a label: the density matrix of the label before (``previous``), extrapolated
from the latest labels by their overlaps, learned, or whichever had the least error recently
(``auto``)."""


@dataclass(frozen=True, eq=False)
class DensityGuess:
    """An initial density for a label.

    Attributes
    ----------
    density_matrix
        Sum over both spins.
    density
        Electrons per cubic Angstrom on a grid, for the structure in the cell that the engine puts
        it into; None if the orbitals are not known in real space.
    """

    density_matrix: BlockMatrix
    density: Callable[[Atoms, Grid], Floats] | None = None


@dataclass(frozen=True, eq=False)
class ForceCheck:
    """Forces of an initial density guess without self-consistency.

    Attributes
    ----------
    forces
        (N, 3) eV/Angstrom.
    within
        Bound on the error of a component, eV/Angstrom.
    """

    forces: Floats
    within: float


@dataclass(frozen=True, eq=False)
class FinishedCalculation:
    """Structure and matrices of a calculation that was not run by otf."""

    atoms: Atoms
    matrices: Matrices


class LabelSource(Protocol):
    """Source of labels during a run: an engine, or a wrapper around one.

    A wrapper passes on every method, or declares in its ``capabilities`` that it does not.
    """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """Capabilities with the given options."""
        ...

    @property
    def warm_start(self) -> WarmStart:
        """Initial densities to start labels from."""
        return "previous"

    @property
    def at_once(self) -> int:
        """Labels of successive numbers that it computes at once, each called in its own thread."""
        return 1

    @abstractmethod
    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """Energy and forces of one structure.

        Parameters
        ----------
        atoms
            The structure.
        index
            Number of this label in the run, from 0. An engine that warm-starts does so from the
            files of label ``index - 1`` in its scratch, so that resumed runs repeat labels exactly.
        remedies
            Remedies to apply, from earlier failures of this same label, or
            :data:`otf.engines.failures.FROM_SCRATCH` to confirm a suspicious energy: use no files
            of earlier labels.
        guess
            Initial density to start from; only where ``capabilities.matrices``.
        """
        ...

    def matrices(self) -> Matrices | None:
        """Converged matrices of the latest label; None if there are none."""
        return None

    def check_forces(
        self, atoms: Atoms, *, index: int, guess: DensityGuess | None = None
    ) -> ForceCheck | None:
        """Forces of a density guess for a structure, without self-consistency.

        Must not leave files that label ``index`` or a later one depends on.

        Returns
        -------
        None without a guess or a result; always None unless ``capabilities.force_check``.
        """
        return None

    def pause(self) -> None:
        """Release resources held between labels (cores, memory) until the next one."""
        return


class Engine(LabelSource, Protocol):
    """A program that labels structures. Opened once, closed once, restartable.

    Derive from this class: methods with a body here are defaults. An engine is constructed as
    ``Engine(options, charge=…, spin=…)`` with a validated instance of its own ``Options``;
    construction must not start anything.
    """

    kind: ClassVar[str]
    """Name in ``engine: {kind: …}``, equal to the entry point's name."""

    Options: ClassVar[type[BaseModel]]
    """Schema of the ``engine`` section without ``kind``; unknown keys must be forbidden."""

    with_matrices: ClassVar[dict[str, str | bool]] = {}
    """Options with which labels have matrices; empty if they never do."""

    has_charge: ClassVar[bool] = True
    """Whether it takes the charge and the spin of ``system``."""

    may_change: ClassVar[tuple[str, ...]] = ()
    """Options that may be changed when a run is resumed: they do not affect the labels, or only
    how they are computed."""

    without_effect: ClassVar[tuple[str, ...]] = ()
    """Options that do not affect the labels, so that labels with and without them may be mixed."""

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None: ...

    @abstractmethod
    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Prepare to label structures like ``atoms``.

        Parameters
        ----------
        atoms
            Species, cell and periodicity of the run.
        scratch
            A directory the engine may fill (created when needed). Files there from an
            earlier session may be reused, but must be checked.

        Raises
        ------
        EngineError
            If the program is missing or does not support such structures.
        """
        ...

    @abstractmethod
    def close(self) -> None:
        """Release all resources; may be called twice."""
        ...

    def one_step(
        self,
        atoms: Atoms,
        *,
        index: int,
        guess: DensityGuess,
    ) -> Matrices | LabelFailure:
        """Hamiltonian of a density, and the density matrix of one diagonalisation of it.

        Parameters
        ----------
        atoms
            The structure.
        index
            Number of the structure, from 0; files of the one before may be used.
        guess
            Its density, in the basis of the engine.

        Raises
        ------
        EngineError
            If the engine has no Hamiltonian to give.
        """
        raise EngineError(f"engine '{self.kind}' computes no Hamiltonian of a given density")

    @classmethod
    @abstractmethod
    def doctor(cls) -> EngineReport:
        """Report what is installed and what is missing, without computing anything."""
        ...

    @classmethod
    def job(cls, path: Path) -> InputJob:  # noqa: ARG003 -- a default for subclasses
        """The structure in an input file of the program, and what it says about the dynamics.

        Raises
        ------
        EngineError
            If the engine reads no input files, or not this one.
        """
        raise EngineError(
            f"system.from: engine '{cls.kind}' reads no structures; use system.structure"
        )

    @classmethod
    def finished(cls, folder: Path) -> "FinishedCalculation | None":  # noqa: ARG003 -- a default
        """Structure and matrices of a finished calculation; None if the folder has none.

        Raises
        ------
        EngineError
            If its files cannot be used; the message states why.
        """
        return None

    @classmethod
    def found_beside(cls, options: Mapping[str, Any], folder: Path) -> dict[str, str]:  # noqa: ARG003
        """Options that follow from files in the folder of the configuration; none by default."""
        return {}

    @classmethod
    def method_of(cls, path: Path) -> str:
        """What an input file says of the method: its text without structure and dynamics.

        Raises
        ------
        EngineError
            If it cannot be read.
        """
        return path.read_text(encoding="utf-8", errors="replace")

    @classmethod
    def keep_input(cls, path: Path, target: Path) -> None:
        """Copy a file that the options name, with what it includes.

        Raises
        ------
        OSError
            If it cannot be copied.
        EngineError
            If an included file is missing.
        """
        shutil.copy(path, target)

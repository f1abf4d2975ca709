"""The seam between otf and the programs that compute energies and forces.

otf imports no engine. It finds them by the entry-point group ``otf.engines``, where each entry is
a class that follows :class:`Engine`. :mod:`otf.engines.contract` holds the tests such a class must pass.
"""

import difflib
import importlib.util
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import ClassVar, Literal, Protocol, cast, get_args, runtime_checkable

from ase import Atoms
from pydantic import BaseModel

from otf.arrays import Floats
from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.errors import EngineError
from otf.orbitals.block_matrices import BlockMatrix, Matrices
from otf.orbitals.grids import Grid

ENTRY_POINT_GROUP = "otf.engines"


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do, known before anything is computed.

    Attributes
    ----------
    periodic
        Accepts periodic boundary conditions.
    stress
        Returns the stress of a periodic structure.
    atomic_energies
        Splits the energy into atoms.
    level
        What kind of answer it is: ``"DFT"``, ``"semi-empirical"``, ``"force field"``, …
    """

    periodic: bool
    stress: bool
    atomic_energies: bool
    level: str


@runtime_checkable
class Engine(Protocol):
    """A program that labels structures. Opened once, closed once, restartable.

    An engine class is constructed as ``Engine(options, charge=…, spin=…)`` with a validated
    instance of its own ``Options``; construction must not start anything.

    A class may have more: ``structure(path)`` and ``whole_text(path)``, see :func:`read_input` and
    :func:`keep_input`; and ``may_change``, names of options that may be others when a run is
    resumed: they have no part in the answers, or only in reaching them; ``pause()``, which
    gives back what it holds between labels (cores, memory) until the next one; and what
    :class:`WithMatrices` has.
    """

    kind: ClassVar[str]
    """Name in ``engine: {kind: …}``, equal to the entry point's name."""

    Options: ClassVar[type[BaseModel]]
    """Schema of the ``engine`` section without ``kind``; unknown keys must be forbidden."""

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None: ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do with these options."""
        ...

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Get ready to label structures like ``atoms``.

        Parameters
        ----------
        atoms
            Species, cell and periodicity of the run.
        scratch
            A directory the engine may fill (created when needed). What is found there from an
            earlier run of the same directory may be reused, never trusted.

        Raises
        ------
        EngineError
            If the program is missing or cannot do such structures.
        """
        ...

    def label(
        self, atoms: Atoms, *, index: int, remedies: Collection[str] = ()
    ) -> Labels | LabelFailure:
        """Energy and forces of one structure.

        Parameters
        ----------
        atoms
            The structure.
        index
            Number of this label in the run, from 0. An engine that warm-starts does so from what
            label ``index - 1`` left in its scratch, so that a resumed run repeats a label exactly.
        remedies
            Remedies to apply, from earlier failures of this same label, or
            :data:`otf.engines.failures.FROM_SCRATCH` where an answer is doubted: use nothing that earlier
            labels left.
        """
        ...

    def close(self) -> None:
        """Release everything; may be called twice."""
        ...

    @classmethod
    def doctor(cls) -> EngineReport:
        """What is there and what is missing, without computing anything."""
        ...


WarmStart = Literal["auto", "previous", "extrapolate", "learned"]
"""What a label starts from: the density matrix of the one before; of the latest ones, by their
overlaps; of what was learned; or whichever of these was nearest to the truth of late."""


@dataclass(frozen=True, eq=False)
class DensityGuess:
    """What a label is to be started from.

    Attributes
    ----------
    density_matrix
        Of both spins.
    density
        Its electrons per cubic Angstrom on a grid, for the structure in the cell an engine puts it
        into; None where the orbitals are not known in space.
    """

    density_matrix: BlockMatrix
    density: Callable[[Atoms, Grid], Floats] | None = None


@runtime_checkable
class WithMatrices(Protocol):
    """What an engine has that starts labels from any guess, and tells where they end."""

    @property
    def warm_start(self) -> WarmStart:
        """What its options say."""
        ...

    @property
    def keeps_matrices(self) -> bool:
        """Whether matrices of labels are to be kept."""
        ...

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """As :meth:`Engine.label`, started from this guess where there is one."""
        ...

    def matrices(self) -> Matrices | None:
        """What the latest label ended with; None where it has none to tell."""
        ...


@dataclass(frozen=True, eq=False)
class ForceCheck:
    """What a guess has to say, as it is.

    Attributes
    ----------
    forces
        (N, 3) eV/Angstrom.
    within
        Largest error of one of their components, eV/Angstrom.
    """

    forces: Floats
    within: float


@runtime_checkable
class ChecksForces(Protocol):
    """What an engine has that tells the forces of a guess without self-consistency."""

    def check_forces(self, atoms: Atoms, guess: DensityGuess, *, index: int) -> ForceCheck | None:
        """Forces of a guess for the structure that label ``index`` may be asked of next.

        Nothing is left behind that this label, or one after it, would depend on. None where there
        is no answer.
        """
        ...


def read_input(kind: str, path: Path) -> Atoms:
    """The structure of an engine's own input file, by its optional class method ``structure``.

    Raises
    ------
    EngineError
        If there is no such engine, it reads no structures, or not this one.
    """
    read = getattr(load_engine(kind), "structure", None)
    if read is None:
        raise EngineError(f"system.from: engine '{kind}' reads no structures; use system.structure")
    atoms = read(path)
    assert isinstance(atoms, Atoms)
    return atoms


def keep_input(kind: str, path: Path, target: Path) -> None:
    """Copy a file that an engine's options name.

    Where the engine has the optional class method ``whole_text``, files it includes become part of
    the copy.

    Raises
    ------
    OSError
        If it cannot be copied.
    EngineError
        If an included file is missing.
    """
    whole = getattr(load_engine(kind), "whole_text", None)
    if whole is None:
        shutil.copy(path, target)
    else:
        target.write_text(whole(path), encoding="utf-8")


def path_options(options: type[BaseModel]) -> list[str]:
    """Names of the options that are files or folders.

    Relative ones start at the configuration file; files become part of the run directory.
    """
    return [
        name
        for name, info in options.model_fields.items()
        if any(
            Path in (part, *get_args(part))
            for part in (info.annotation, *get_args(info.annotation))
        )
    ]


def installed_engines() -> dict[str, EntryPoint]:
    """Entry points of the engines on this machine, by kind.

    Raises
    ------
    EngineError
        If two installed distributions offer the same kind.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise EngineError(
                f"two engines are called '{entry.name}': {_origin(other)} and {_origin(entry)}; "
                "uninstall one of the distributions"
            )
    return found


def load_engine(kind: str) -> type[Engine]:
    """The class of an engine.

    Raises
    ------
    EngineError
        If there is no such engine, or its module does not import; the message names the file that
        was imported instead when another module is in the way.
    """
    engines = installed_engines()
    if kind not in engines:
        close = difflib.get_close_matches(kind, engines, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise EngineError(
            f"no engine is called '{kind}'; {hint}installed: {', '.join(sorted(engines))}"
        )
    entry = engines[kind]
    try:
        engine = entry.load()
    except (ImportError, AttributeError) as error:
        raise EngineError(
            f"engine '{kind}' ({_origin(entry)}) does not import: {error}. "
            + _what_shadows(entry, error)
        ) from error
    if not isinstance(engine, type) or not hasattr(engine, "label"):
        raise EngineError(f"engine '{kind}' ({_origin(entry)}) is not an engine class")
    return cast(type[Engine], engine)


def _origin(entry: EntryPoint) -> str:
    distribution = f" of {entry.dist.name}" if entry.dist is not None else ""
    return f"{entry.value}{distribution}"


def _what_shadows(entry: EntryPoint, error: ImportError | AttributeError) -> str:
    """Where the modules in question really come from, to show a file that hides a package."""
    failed = getattr(error, "name", None)
    names = {entry.module.partition(".")[0]}
    if isinstance(error, ImportError) and failed:
        names.add(failed.partition(".")[0])
    lines = []
    for name in sorted(names):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            lines.append(f"'{name}' is not installed: pip install the package that has it")
        else:
            origin = spec.origin or str(next(iter(spec.submodule_search_locations or ["?"])))
            lines.append(
                f"'{name}' is taken from {origin}: if that is not the installed package, rename "
                "or move that file, or unset PYTHONPATH"
            )
    return "; ".join(lines)

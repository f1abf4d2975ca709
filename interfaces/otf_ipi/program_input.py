"""Input files of programs: the structure they contain, and what a run changes in them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

import ase.io
import numpy as np
from ase import Atoms

from otf.engines.ipi_client import Listener
from otf.engines.job import InputJob
from otf.errors import EngineError

_WORD = re.compile(r"""[^\s'",;=<>]+""")
_HIDDEN_MOVE_A = 0.01  # breaks symmetries that a program would keep for all later structures


class ProgramInput(ABC):
    """An input file.

    Parameters
    ----------
    text
        Its text.
    source
        Its name, for messages.
    folder
        Folder that relative names of files in it start from.
    """

    remedies: ClassVar[tuple[str, ...]] = ()
    """What can be changed in it when SCF does not converge."""

    def __init__(self, text: str, source: str, folder: Path) -> None:
        self.text = text
        self.source = source
        self.folder = folder

    @abstractmethod
    def job(self) -> InputJob:
        """The structure, and what the file says about the dynamics.

        Raises
        ------
        EngineError
            If it cannot be read.
        """
        ...

    @abstractmethod
    def species(self, symbols: Sequence[str]) -> list[str]:
        """Name of each atom in the input, which may differ between atoms of one element.

        Raises
        ------
        EngineError
            If an element is not described.
        """
        ...

    @abstractmethod
    def prepared(
        self, atoms: Atoms, species: Sequence[str], listener: Listener, remedies: Collection[str]
    ) -> str:
        """Text of the input of a process that starts with a structure."""
        ...

    def write(
        self,
        directory: Path,
        atoms: Atoms,
        species: Sequence[str],
        listener: Listener,
        remedies: Collection[str],
    ) -> None:
        """Write the input of a process that starts with a structure, and link what it names."""
        for name in self.files():
            link = directory / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((self.folder / name).absolute())
        target = directory / self.source
        target.unlink(missing_ok=True)  # the input names itself
        target.write_text(self.prepared(atoms, species, listener, remedies), encoding="utf-8")

    @property
    def field(self) -> str:
        """What sets an external electric field in it; empty if there is none."""
        return ""

    @property
    def changes(self) -> Sequence[str]:
        """What a run changes besides the structure and the type of the run, in words."""
        return ()

    def files(self) -> list[str]:
        """Names of files in it that are relative to the folder and exist there."""
        words = {word.removeprefix("./") for word in _WORD.findall(self.text)}
        return sorted(w for w in words if ".." not in w and _is_file_below(self.folder, w))


class OtherInput(ProgramInput):
    """An input file that is used as it is, except for the address.

    Parameters
    ----------
    structure_file
        Name of a file that it reads the structure from, which is written; None if the structure
        is in the input itself, and must be that of the run.
    structure_format
        ASE's name of the format of that file; None: by its name.
    """

    def __init__(
        self,
        text: str,
        source: str,
        folder: Path,
        *,
        structure_file: str | None = None,
        structure_format: str | None = None,
    ) -> None:
        super().__init__(text, source, folder)
        self._file = structure_file
        self._format = structure_format

    def job(self) -> InputJob:
        """See :class:`ProgramInput`; ASE reads the structure."""
        named = self.folder / (self._file or self.source)
        try:
            atoms = ase.io.read(named, format=self._format)
        except Exception as error:  # ase.io raises whatever the format's reader raises
            raise EngineError(
                f"{named}: ASE reads no structure ({type(error).__name__}: {error}); give it as "
                "system.structure"
            ) from error
        assert isinstance(atoms, Atoms)
        return InputJob(atoms)

    def species(self, symbols: Sequence[str]) -> list[str]:
        """See :class:`ProgramInput`; the program's own."""
        return list(symbols)

    def prepared(
        self, atoms: Atoms, species: Sequence[str], listener: Listener, remedies: Collection[str]
    ) -> str:
        """See :class:`ProgramInput`."""
        return filled(self.text, listener)

    def write(
        self,
        directory: Path,
        atoms: Atoms,
        species: Sequence[str],
        listener: Listener,
        remedies: Collection[str],
    ) -> None:
        """See :class:`ProgramInput`; also the file that the input reads the structure from.

        Its atoms are moved by some 0.01 Angstrom: programs keep the symmetries of the structure
        they start with, and the structures they are sent later have none.

        Raises
        ------
        EngineError
            If ASE cannot write the format.
        """
        super().write(directory, atoms, species, listener, remedies)
        if self._file is None:
            return
        moved = atoms.copy()
        moved.set_constraint()
        moved.positions += np.random.default_rng(0).uniform(
            -_HIDDEN_MOVE_A, _HIDDEN_MOVE_A, moved.positions.shape
        )
        target = directory / self._file
        target.unlink(missing_ok=True)  # a link to the user's own
        try:
            ase.io.write(target, moved, format=self._format)
        except Exception as error:  # ase.io raises whatever the format's writer raises
            raise EngineError(
                f"engine.structure_file: {self._file} cannot be written "
                f"({type(error).__name__}: {error}); see engine.structure_format"
            ) from error


def filled(text: str, listener: Listener, *, input_name: str = "") -> str:
    """A text with the address in place of ``{address}``, ``{host}`` and ``{port}``.

    Braces around anything else are left.
    """
    address = listener.address
    if listener.port is not None:
        address = f"{address}:{listener.port}"
    values = {
        "{address}": address,
        "{host}": listener.address,
        "{port}": str(listener.port or 0),
        "{input}": input_name,
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _is_file_below(folder: Path, name: str) -> bool:
    try:
        return not Path(name).is_absolute() and (folder / name).is_file()
    except (OSError, ValueError):  # a long word, or one with a null byte
        return False

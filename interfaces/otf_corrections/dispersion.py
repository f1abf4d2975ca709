"""Dispersion corrections D3 and D4, by the libraries of their authors (dftd3, dftd4)."""

import importlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, Literal

from ase import Atoms
from pydantic import BaseModel, ConfigDict, Field

from otf.engines.calculator import CalculatorEngine
from otf.engines.extras import install_command
from otf.engines.labels import EngineReport
from otf.engines.protocol import Capabilities
from otf.errors import EngineError


class D4Options(BaseModel):
    """Keys of the ``engine`` section."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    method: str = Field(description="density functional whose dispersion is missing, such as PBE")


class D3Options(D4Options):
    """Keys of the ``engine`` section."""

    damping: Literal["d3bj", "d3zero", "d3bjm", "d3zerom", "d3op"] = "d3bj"


class _Dispersion(CalculatorEngine):
    """A dispersion correction; the total charge has no part in it."""

    has_charge: ClassVar[bool] = False
    package: ClassVar[str]

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None:
        super().__init__(None, name=self.kind, level="dispersion")
        self._options = options

    @property
    def capabilities(self) -> Capabilities:
        """Molecules and crystals, with stress."""
        return Capabilities(periodic=True, stress=True, atomic_energies=False, level="dispersion")

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Set up the correction.

        Raises
        ------
        EngineError
            If the library is missing or has no such method.
        """
        try:
            module = importlib.import_module(f"{self.package}.ase")
        except ImportError as error:
            raise EngineError(
                f"engine {self.kind} needs {self.package}: {install_command('dispersion')}"
            ) from error
        made = getattr(module, self.package.upper())  # DFTD3, DFTD4
        self._calculator = made(**self._options.model_dump())
        structure = atoms.copy()
        structure.calc = self._calculator
        try:
            structure.get_potential_energy()
        except Exception as error:  # of the library's Fortran
            raise EngineError(
                f"engine {self.kind}: {error}; method is the name of a density functional, such as "
                "PBE"
            ) from error

    @classmethod
    def doctor(cls) -> EngineReport:
        """Whether the library is installed."""
        try:
            return EngineReport(True, version(cls.package), [])
        except PackageNotFoundError:
            return EngineReport(False, "", [install_command("dispersion")])


class D3Engine(_Dispersion):
    """DFT-D3 (Grimme et al., J. Chem. Phys. 132, 154104 (2010))."""

    kind: ClassVar[str] = "d3"
    Options: ClassVar[type[BaseModel]] = D3Options
    package: ClassVar[str] = "dftd3"


class D4Engine(_Dispersion):
    """DFT-D4 (Caldeweyher et al., J. Chem. Phys. 150, 154122 (2019))."""

    kind: ClassVar[str] = "d4"
    Options: ClassVar[type[BaseModel]] = D4Options
    package: ClassVar[str] = "dftd4"

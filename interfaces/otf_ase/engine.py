"""Labels by an ASE calculator, given as ``module:Class`` with its keywords."""

import importlib
import time
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.calculators.calculator import FileIOCalculator, PropertyNotImplementedError
from ase.calculators.genericfileio import GenericFileIOCalculator
from pydantic import BaseModel, ConfigDict, Field

from otf.engines.failures import FROM_SCRATCH
from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.engines.protocol import Capabilities, DensityGuess, Engine
from otf.errors import EngineError


class Options(BaseModel):
    """Keys of the ``engine`` section."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    calculator: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] = Field(
        description="module:Class, such as ase.calculators.emt:EMT"
    )
    keywords: dict[str, Any] = Field(
        default_factory=dict, description="passed to the class, unchanged"
    )
    level: str = Field("ASE calculator", description="level of theory, for the reports")


class AseEngine(Engine):
    """An ASE calculator in this process; charge and spin are keywords of the calculator."""

    kind: ClassVar[str] = "ase"
    Options: ClassVar[type[BaseModel]] = Options
    may_change: ClassVar[tuple[str, ...]] = ("calculator", "keywords")  # which hold its commands

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None:
        assert isinstance(options, Options)
        if charge or spin:
            raise EngineError(
                "engine 'ase' cannot pass charge and spin to its calculator: leave "
                "system.charge and system.spin at 0 and use engine.keywords"
            )
        self._options = options
        self._calculator: GetPropertiesMixin | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Not known in advance, so only atomic energies are ruled out."""
        return Capabilities(
            periodic=True, stress=True, atomic_energies=False, level=self._options.level
        )

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Import the class and construct it.

        Raises
        ------
        EngineError
            If it cannot be imported or rejects its keywords.
        """
        module, _, name = self._options.calculator.partition(":")
        try:
            calculator_class = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise EngineError(
                f"engine.calculator: {self._options.calculator} cannot be imported ({error}); "
                "check the spelling, or install the package that has it"
            ) from error
        try:
            self._calculator = calculator_class(**self._options.keywords)
        except Exception as error:  # an arbitrary class may raise anything
            raise EngineError(
                f"engine.keywords: {self._options.calculator} rejects them "
                f"({type(error).__name__}: {error})"
            ) from error
        if isinstance(self._calculator, FileIOCalculator | GenericFileIOCalculator):
            # Concurrent runs and replicas must not read each other's files.
            scratch.mkdir(parents=True, exist_ok=True)
            own = Path(self._calculator.directory).name
            self._calculator.directory = type(self._calculator.directory)(scratch / own)
        if not hasattr(self._calculator, "get_potential_energy"):
            self._calculator = None
            raise EngineError(
                f"engine.calculator: {self._options.calculator} is not an ASE calculator"
            )

    def label(
        self,
        atoms: Atoms,
        *,
        index: int,
        remedies: Collection[str] = (),
        guess: DensityGuess | None = None,
    ) -> Labels | LabelFailure:
        """See :class:`otf.engines.protocol.LabelSource`."""
        if self._calculator is None:
            raise EngineError("the ase engine was not opened")
        began = time.perf_counter()
        structure = atoms.copy()
        structure.calc = self._calculator
        if FROM_SCRATCH in remedies:
            self._calculator.reset()  # otherwise it returns cached results
        with np.errstate(all="ignore"):  # non-finite values are caught when labels are checked
            return self._labels(structure, began)

    def _labels(self, structure: Atoms, began: float) -> Labels | LabelFailure:
        try:
            energy = self._energy(structure)
            forces = np.array(structure.get_forces(), dtype=float)
            stress = self._stress(structure)
        except Exception as error:  # calculators that run a program may raise anything
            return LabelFailure(
                f"{type(error).__name__}: {error}",
                "look at the calculator's own output for the cause",
            )
        return Labels(
            energy=energy,
            forces=forces,
            stress=stress,
            wall_s=time.perf_counter() - began,
            provenance=f"ase {version('ase')} {self._options.calculator}",
        )

    @staticmethod
    def _energy(structure: Atoms) -> float:
        """The free energy if available: forces are its derivative."""
        try:
            return float(structure.get_potential_energy(force_consistent=True))
        except (PropertyNotImplementedError, KeyError):
            return float(structure.get_potential_energy())

    def close(self) -> None:
        """Drop the calculator."""
        self._calculator = None

    @classmethod
    def doctor(cls) -> EngineReport:
        """Version of ASE; the calculator itself is checked only when it is opened."""
        return EngineReport(True, version("ase"), ["calculator given as module:Class"])

    @staticmethod
    def _stress(structure: Atoms) -> Any:
        if not structure.pbc.all():
            return None
        try:
            return np.array(structure.get_stress(voigt=False), dtype=float)
        except (PropertyNotImplementedError, NotImplementedError):
            return None

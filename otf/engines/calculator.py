"""An ASE calculator as an engine."""

import time
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.calculators.calculator import PropertyNotImplementedError
from pydantic import BaseModel

from otf.engines.failures import FROM_SCRATCH, ONCE_MORE
from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.engines.protocol import Capabilities, DensityGuess, Engine
from otf.errors import EngineError


class CalculatorEngine(Engine):
    """Labels by a calculator object in this process.

    Parameters
    ----------
    calculator
        Any ASE calculator; None if it is created when the engine is opened.
    name
        Name in the provenance of labels.
    level
        Level of theory, for the reports.
    """

    kind: ClassVar[str] = "ase"
    Options: ClassVar[type[BaseModel]] = BaseModel

    def __init__(
        self, calculator: GetPropertiesMixin | None, *, name: str, level: str = "ASE calculator"
    ) -> None:
        self._calculator = calculator
        self._name = name
        self._level = level

    @property
    def capabilities(self) -> Capabilities:
        """Not known in advance: everything except atomic energies, and perhaps a grid."""
        return Capabilities(
            periodic=True, stress=True, atomic_energies=False, level=self._level, grid=True
        )

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Do nothing: the calculator exists."""

    def close(self) -> None:
        """Do nothing: the calculator belongs to the caller."""

    @classmethod
    def doctor(cls) -> EngineReport:
        """ASE is always installed."""
        return EngineReport(True, version("ase"), ["calculator given as an object"])

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
        with np.errstate(all="ignore"):  # non-finite values are caught when labels are checked
            reset = FROM_SCRATCH in remedies or ONCE_MORE in remedies
            return self._labels(structure, began, reset=reset)

    def _labels(self, structure: Atoms, began: float, *, reset: bool) -> Labels | LabelFailure:
        try:
            if reset:
                structure.calc.reset()  # otherwise it returns cached results
            energy = self._energy(structure)
            forces = np.array(structure.get_forces(), dtype=float)
            stress = self._stress(structure)
        except Exception as error:  # calculators that run a program may raise anything
            return LabelFailure(
                f"{type(error).__name__}: {error}{self._own_output()}",
                "look at the calculator's own output for the cause",
                remedy=ONCE_MORE,
            )
        return Labels(
            energy=energy,
            forces=forces,
            stress=stress,
            wall_s=time.perf_counter() - began,
            provenance=f"ase {version('ase')} {self._name}",
        )

    def _own_output(self) -> str:
        """End of what the calculator's program wrote, for messages."""
        return ""

    @staticmethod
    def _energy(structure: Atoms) -> float:
        """The free energy if available: forces are its derivative."""
        try:
            return float(structure.get_potential_energy(force_consistent=True))
        except (PropertyNotImplementedError, KeyError):
            return float(structure.get_potential_energy())

    @staticmethod
    def _stress(structure: Atoms) -> Any:
        if not structure.pbc.all():
            return None
        try:
            return np.array(structure.get_stress(voigt=False), dtype=float)
        except (PropertyNotImplementedError, NotImplementedError):
            return None

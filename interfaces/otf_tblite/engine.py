"""Labels by the extended tight-binding methods GFN1-xTB and GFN2-xTB (semi-empirical)."""

import time
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import BaseModel, ConfigDict, Field
from tblite.exceptions import TBLiteRuntimeError, TBLiteValueError
from tblite.interface import Calculator, Result
from threadpoolctl import ThreadpoolController

from otf.engines.labels import EngineReport, LabelFailure, Labels
from otf.engines.protocol import Capabilities, DensityGuess, Engine
from otf.errors import EngineError
from otf.units import BOHR, HARTREE, KELVIN

ANNEALING = "lowering the electronic temperature in steps, with weaker mixing"
_ANNEALING_K = (9000.0, 3000.0, 1000.0)


class Options(BaseModel):
    """Keys of the ``engine`` section."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    method: Literal["GFN1-xTB", "GFN2-xTB"] = "GFN2-xTB"
    accuracy: Annotated[float, Field(gt=0, le=10)] = Field(
        0.1, description="of the SCF; tblite's default 1.0 leaves force errors of 0.2 meV/Angstrom"
    )
    electronic_temperature_K: Annotated[float, Field(ge=0)] = 300.0
    max_iterations: Annotated[int, Field(gt=0)] = 250
    threads: Annotated[int, Field(gt=0)] = Field(
        1,
        description="with 1, results are bitwise reproducible and a resumed run is exact; more are "
        "faster above some hundred atoms",
    )


class TbliteEngine(Engine):
    """tblite, in this process. Every label starts from a superposition of atomic densities.

    Nothing is carried from label to label, so a label depends on its structure only.
    """

    kind: ClassVar[str] = "tblite"
    Options: ClassVar[type[BaseModel]] = Options
    without_effect: ClassVar[tuple[str, ...]] = ("threads", "max_iterations")

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None:
        assert isinstance(options, Options)
        self._options = options
        self._charge = charge
        self._spin = spin
        self._calculator: Calculator | None = None
        self._threads = ThreadpoolController()

    @property
    def capabilities(self) -> Capabilities:
        """Molecules and crystals, with stress."""
        return Capabilities(
            periodic=True, stress=True, atomic_energies=True, level="semi-empirical"
        )

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Set up the method for these atoms.

        Raises
        ------
        EngineError
            If charge, spin, species or periodicity are impossible.
        """
        electrons = int(atoms.numbers.sum()) - self._charge
        if not 0 <= self._spin <= electrons or (electrons - self._spin) % 2:
            raise EngineError(
                f"system.spin {self._spin} (unpaired electrons) is impossible with {electrons} "
                f"electrons (system.charge {self._charge}); correct one of them"
            )
        if atoms.pbc.any() and not atoms.pbc.all():
            raise EngineError(
                "tblite is periodic in all three directions or in none; for a slab or a wire give "
                "cell vectors with vacuum and set pbc to T T T"
            )
        try:
            self._calculator = Calculator(
                self._options.method,
                atoms.numbers,
                atoms.positions / BOHR,
                charge=float(self._charge),
                uhf=self._spin,
                lattice=atoms.cell.array / BOHR if atoms.pbc.any() else None,
                periodic=atoms.pbc if atoms.pbc.any() else None,
            )
        except (TBLiteRuntimeError, TBLiteValueError) as error:
            raise EngineError(
                f"tblite rejects this structure: {error}; check species, charge and spin"
            ) from error

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
            raise EngineError("the tblite engine was not opened")
        began = time.perf_counter()
        calculator, options = self._calculator, self._options
        annealed = ANNEALING in remedies
        calculator.set("verbosity", 0)
        calculator.set("accuracy", options.accuracy)
        # More iterations would not do: the mixer of tblite remembers all of them and is slow.
        calculator.set("max-iter", options.max_iterations)
        calculator.set("mixer-damping", 0.1 if annealed else 0.4)
        periodic = bool(atoms.pbc.any())
        try:
            calculator.update(
                positions=atoms.positions / BOHR,
                lattice=atoms.cell.array / BOHR if periodic else None,
            )
            with self._threads.limit(limits=options.threads):
                result = self._converged(calculator, _ANNEALING_K if annealed else ())
        except (TBLiteRuntimeError, TBLiteValueError) as error:
            return LabelFailure(
                f"tblite: {error}",
                "look at the structure at this step; a larger electronic_temperature_K helps "
                "if the gap closes",
                remedy=ANNEALING,
            )
        virial = np.asarray(result.get("virial"))
        return Labels(
            energy=float(result.get("energy")) * HARTREE,
            forces=-np.asarray(result.get("gradient")) * (HARTREE / BOHR),
            stress=virial * (HARTREE / atoms.get_volume()) if atoms.pbc.all() else None,
            atomic_energies=np.asarray(result.get("energies")) * HARTREE,
            wall_s=time.perf_counter() - began,
            provenance=f"tblite {version('tblite')} {options.method} (semi-empirical)",
        )

    def _converged(self, calculator: Calculator, before_K: tuple[float, ...]) -> Result:
        """The converged result, reached by way of those at other electronic temperatures."""
        result = None
        wanted = self._options.electronic_temperature_K
        for kelvin in (*(t for t in before_K if t > wanted), wanted):
            calculator.set("temperature", kelvin * KELVIN / HARTREE)
            result = calculator.singlepoint(result)
        return result

    def close(self) -> None:
        """Release the calculator."""
        self._calculator = None

    @classmethod
    def doctor(cls) -> EngineReport:
        """Version and threads."""
        try:
            found = version("tblite")
        except PackageNotFoundError:
            return EngineReport(False, "", ["pip install tblite"])
        return EngineReport(
            True, found, ["semi-empirical, not DFT", "threads: engine.threads, 1 by default"]
        )

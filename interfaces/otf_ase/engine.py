"""Labels by an ASE calculator, given as ``module:Class`` with its keywords."""

import importlib
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import FileIOCalculator
from ase.calculators.genericfileio import GenericFileIOCalculator
from pydantic import BaseModel, ConfigDict, Field

from otf.engines.calculator import CalculatorEngine
from otf.engines.labels import EngineReport
from otf.errors import EngineError

_FILE_CALCULATORS = (FileIOCalculator, GenericFileIOCalculator)
_LAST_LINES, _MOST_BYTES = 6, 4000


class Options(BaseModel):
    """Keys of the ``engine`` section."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    calculator: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] = Field(
        description="module:Class, such as ase.calculators.emt:EMT"
    )
    keywords: dict[str, Any] = Field(
        default_factory=dict, description="passed to the class, unchanged"
    )
    from_object: bool = Field(
        False, description="written by otf.Run: the calculator was an object, which no file holds"
    )
    level: str = Field("ASE calculator", description="level of theory, for the reports")


class AseEngine(CalculatorEngine):
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
        super().__init__(None, name=options.calculator, level=options.level)
        self._options = options

    def open(self, atoms: Atoms, scratch: Path) -> None:
        """Import the class and construct it.

        Raises
        ------
        EngineError
            If it cannot be imported or rejects its keywords.
        """
        if self._options.from_object:
            raise EngineError(
                "engine.from_object: the run was started from Python with a calculator object "
                f"({self._options.calculator}); continue it there: "
                "otf.open_run(directory, engine=calculator).run(). What labels by the engine from "
                "the command line needs a run whose calculator is named: module:Class"
            )
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
        if isinstance(self._calculator, _FILE_CALCULATORS):
            # Concurrent runs and replicas must not read each other's files.
            scratch.mkdir(parents=True, exist_ok=True)
            own = Path(self._calculator.directory).name
            self._calculator.directory = type(self._calculator.directory)(scratch / own)
        if not hasattr(self._calculator, "get_potential_energy"):
            self._calculator = None
            raise EngineError(
                f"engine.calculator: {self._options.calculator} is not an ASE calculator"
            )

    def _own_output(self) -> str:
        """The last lines of the file that the program of the calculator wrote last."""
        if not isinstance(self._calculator, _FILE_CALCULATORS):
            return ""
        written = [p for p in Path(self._calculator.directory).glob("*") if p.is_file()]
        for path in sorted(written, key=lambda p: -p.stat().st_mtime):
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _MOST_BYTES))
                lines = file.read().decode(errors="replace").split("\n")
            text = [line.rstrip() for line in lines if line.strip()]
            if text and "\0" not in text[-1]:
                return f"; {path.name} ends with:\n" + "\n".join(text[-_LAST_LINES:])
        return ""

    def close(self) -> None:
        """Drop the calculator."""
        self._calculator = None

    @classmethod
    def doctor(cls) -> EngineReport:
        """Version of ASE; the calculator itself is checked only when it is opened."""
        return EngineReport(True, version("ase"), ["calculator given as module:Class"])

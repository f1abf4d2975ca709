"""Labels by an ASE calculator, given as ``module:Class`` with its keywords."""

import importlib
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Annotated, Any, ClassVar, get_type_hints

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
    module: Annotated[Path, Field(strict=False)] | None = Field(
        None,
        description="file of the module, copied into the run directory; default: that beside the "
        "configuration, if the module is not installed",
    )
    from_object: bool = Field(
        False, description="written by otf.Run: the calculator was an object, which no file holds"
    )
    level: str = Field("ASE calculator", description="level of theory, for the reports")


def _imported(name: str, file: Path | None) -> ModuleType:
    """The module of this name: that of the file if one is given."""
    if file is None:
        return importlib.import_module(name)
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python module")
    module = module_from_spec(spec)
    sys.modules[name] = module  # so that its classes can be pickled
    spec.loader.exec_module(module)
    return module


def _makes_calculators(found: object) -> bool:
    """Whether this is a class of calculators or a function that says that it returns one.

    Anything else must not be called: a configuration may come from others.
    """
    if isinstance(found, FunctionType):
        try:
            found = get_type_hints(found).get("return")
        except (NameError, TypeError):  # annotations that cannot be resolved
            return False
    return isinstance(found, type) and hasattr(found, "get_potential_energy")


class AseEngine(CalculatorEngine):
    """An ASE calculator in this process; charge and spin are keywords of the calculator."""

    kind: ClassVar[str] = "ase"
    Options: ClassVar[type[BaseModel]] = Options
    has_charge: ClassVar[bool] = False
    may_change: ClassVar[tuple[str, ...]] = ("calculator", "keywords")  # which hold its commands
    without_effect: ClassVar[tuple[str, ...]] = ("level", "from_object")

    def __init__(self, options: BaseModel, *, charge: int, spin: int) -> None:
        assert isinstance(options, Options)
        if charge or spin:
            raise EngineError(
                "engine 'ase' cannot pass charge and spin to its calculator: leave "
                "system.charge and system.spin at 0 and use engine.keywords"
            )
        super().__init__(None, name=options.calculator, level=options.level)
        self._options = options

    @classmethod
    def found_beside(cls, options: Mapping[str, Any], folder: Path) -> dict[str, str]:
        """The module's file, if it is there and no module of this name is installed."""
        name = str(options.get("calculator", "")).partition(":")[0]
        file = folder / f"{name}.py"
        if options.get("module") or not file.is_file() or PathFinder.find_spec(name) is not None:
            return {}
        return {"module": str(file.absolute())}

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
            calculator_class = getattr(_imported(module, self._options.module), name)
        except (ImportError, AttributeError) as error:
            raise EngineError(
                f"engine.calculator: {self._options.calculator} cannot be imported ({error}); "
                "check the spelling, install the package that has it, or put the module beside the "
                "configuration"
            ) from error
        if not _makes_calculators(calculator_class):
            raise EngineError(
                f"engine.calculator: {self._options.calculator} is not an ASE calculator: neither "
                "a class of them nor a function that is annotated to return one"
            )
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

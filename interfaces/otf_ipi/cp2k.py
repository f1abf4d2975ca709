"""Input files of CP2K, read and written by cp2k-input-tools.

In its trees, sections begin with ``+``, ``_`` is the parameter of a section, and ``*`` its lines
without keywords (https://github.com/cp2k/cp2k-input-tools).
"""

import copy
import functools
import io
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any, ClassVar

import ase.io
import numpy as np
from ase import Atoms, units
from ase.cell import Cell
from ase.data import chemical_symbols

from otf.engines.extras import install_command
from otf.engines.failures import MORE_ITERATIONS
from otf.engines.ipi_client import Listener
from otf.engines.job import Given, InputJob, fix_components
from otf.engines.placement import name_species
from otf.errors import EngineError
from otf_ipi.program_input import ProgramInput

try:
    from cp2k_input_tools.generator import CP2KInputGenerator
    from cp2k_input_tools.parser import CP2KInputParser
except ImportError:  # the extra 'cp2k' is not installed
    CP2KInputParser = None

_ENSEMBLES = {
    "nve": "nve",
    "langevin": "langevin",
    "npt_i": "npt",
    "npt_f": "npt_full",
}
_THERMOSTATS = {"nose": "nhc", "csvr": "csvr", "gle": "langevin", "ad_langevin": "langevin"}
_BAR_PER_GPA = 1e4
_MORE_ITERATIONS = 500


class Cp2kInput(ProgramInput):
    """Input of CP2K."""

    remedies: ClassVar[tuple[str, ...]] = (MORE_ITERATIONS,)

    def job(self) -> InputJob:
        """See :class:`ProgramInput`."""
        names, atoms = self._atoms
        atoms = atoms.copy()
        motion = self._tree.get("+motion", {})
        fixed = np.zeros((len(names), 3), dtype=bool)
        constraints = motion.get("+constraint", {})
        for section in _listed(constraints.get("+fixed_atoms")):
            axes = str(section.get("components_to_fix", "xyz")).lower()
            for index in _indices(section.get("list", [])):
                fixed[index - 1] |= [axis in axes for axis in "xyz"]
        of_atoms = fix_components(atoms, fixed, "FIXED_ATOMS")
        left = [
            f"&{name.removeprefix('+').upper()}: not read; the system section has constraints"
            for name in constraints
            if name.startswith("+") and name != "+fixed_atoms"
        ]
        if "+velocity" in self._subsystem:
            left.append("&VELOCITY: not read")
        dynamics, further = self._dynamics(motion.get("+md", {}))
        return InputJob(atoms, tuple(of_atoms), dynamics, (*left, *further))

    def species(self, symbols: Sequence[str]) -> list[str]:
        """See :class:`ProgramInput`; the names of kinds."""
        elements = {}
        for kind in _listed(self._subsystem.get("+kind")):
            name = str(kind.get("_", ""))
            elements[name] = str(kind.get("element", _element(name)))
        try:
            present = self._atoms[0]
        except EngineError:  # the structure is not in this file
            present = []
        return name_species(symbols, present, elements, self.source)

    def prepared(
        self, atoms: Atoms, species: Sequence[str], listener: Listener, remedies: Collection[str]
    ) -> str:
        """See :class:`ProgramInput`."""
        tree = copy.deepcopy(self._tree)
        tree.pop("+ext_restart", None)
        tree.setdefault("+global", {})["run_type"] = "DRIVER"
        driver: dict[str, object] = {"host": listener.address, "port": listener.port or 1}
        if listener.port is None:
            driver["unix"] = True
        tree["+motion"] = {"+driver": driver}
        force = _listed(tree["+force_eval"])[0]
        if self._adds_stress:
            force["stress_tensor"] = "ANALYTICAL"
        subsystem = force["+subsys"]
        cell = subsystem.setdefault("+cell", {})
        for name in ("abc", "alpha_beta_gamma", "cell_file_name", "cell_file_format", "symmetry"):
            cell.pop(name, None)
        cell |= {name: list(row) for name, row in zip("abc", atoms.cell.array, strict=True)}
        for name in ("+velocity", "+core_velocity", "+shell_velocity"):
            subsystem.pop(name, None)
        topology = subsystem.get("+topology", {})
        for name in (
            "coord_file_name",
            "coord_file_format",
            "number_of_atoms",
            "+center_coordinates",
        ):
            topology.pop(name, None)
        rows = zip(species, atoms.positions, strict=True)
        subsystem["+coord"] = {
            "*": [f"{name} " + " ".join(f"{x:.12f}" for x in row) for name, row in rows]
        }
        if MORE_ITERATIONS in remedies:
            force.setdefault("+dft", {}).setdefault("+scf", {})["max_scf"] = _MORE_ITERATIONS
        return "\n".join(_generator().line_iter(tree)) + "\n"

    @property
    def field(self) -> str:
        """See :class:`ProgramInput`."""
        dft = self._force.get("+dft", {})
        found = [name for name in ("efield", "periodic_efield") if f"+{name}" in dft]
        return f"&{found[0].upper()}" if found else ""

    @property
    def changes(self) -> list[str]:
        """See :class:`ProgramInput`."""
        return ["STRESS_TENSOR ANALYTICAL: the stress is part of labels"] * self._adds_stress

    @property
    def _adds_stress(self) -> bool:
        periodic = str(self._subsystem.get("+cell", {}).get("periodic", "XYZ")).upper()
        return periodic == "XYZ" and "stress_tensor" not in self._force

    @cached_property
    def _tree(self) -> dict[str, Any]:
        if CP2KInputParser is None:
            raise EngineError(
                f"{self.source}: input files of CP2K are read by cp2k-input-tools: "
                f"{install_command('cp2k')}"
            )
        try:
            tree = _parser(str(self.folder)).parse(io.StringIO(self.text))
            assert isinstance(tree, dict)
        except Exception as error:  # the parser raises various errors
            raise EngineError(
                f"{self.source}: is not read as an input of CP2K: {_in_words(error)}. If your CP2K "
                "accepts it, put &DRIVER with HOST {address} into it and set engine.program: other"
            ) from error
        if len(_listed(tree.get("+force_eval"))) != 1:
            raise EngineError(
                f"{self.source}: one &FORCE_EVAL is needed; for mixed ones put &DRIVER with HOST "
                "{address} into the file and set engine.program: other"
            )
        return tree

    @property
    def _force(self) -> dict[str, Any]:
        return _listed(self._tree["+force_eval"])[0]

    @property
    def _subsystem(self) -> dict[str, Any]:
        found = self._force.get("+subsys", {})
        assert isinstance(found, dict)
        return found

    @cached_property
    def _atoms(self) -> tuple[list[str], Atoms]:
        """Names of the kinds, and the structure."""
        cell = _cell(self._subsystem.get("+cell", {}), self.source)
        coordinates = self._subsystem.get("+coord", {})
        topology = self._subsystem.get("+topology", {})
        if "*" in coordinates:
            rows = [str(line).split() for line in coordinates["*"]]
            names = [row[0] for row in rows]
            try:
                positions = np.array([[float(x) for x in row[1:4]] for row in rows])
            except ValueError as error:
                raise EngineError(f"{self.source}: &COORD: {error}") from error
            if coordinates.get("scaled"):
                positions = positions @ cell.array
            elif str(coordinates.get("unit", "angstrom")).lower() == "bohr":
                positions *= units.Bohr
        elif "coord_file_name" in topology:
            named = self.folder / str(topology["coord_file_name"])
            try:
                read = ase.io.read(named)
            except Exception as error:  # ase.io raises whatever the format's reader raises
                raise EngineError(
                    f"{self.source}: COORD_FILE_NAME {named.name} is not read by ASE ({error}); "
                    "give the structure as system.structure"
                ) from error
            assert isinstance(read, Atoms)
            names, positions = list(read.symbols), read.positions
        else:
            raise EngineError(
                f"{self.source}: it has neither &COORD nor COORD_FILE_NAME; give the structure as "
                "system.structure"
            )
        periodic = str(self._subsystem.get("+cell", {}).get("periodic", "XYZ")).upper()
        pbc = [axis in periodic for axis in "XYZ"]
        kinds = {
            str(kind.get("_")): str(kind["element"])
            for kind in _listed(self._subsystem.get("+kind"))
            if "element" in kind
        }
        symbols = [kinds.get(name, _element(name)) for name in names]
        return names, Atoms(symbols, positions, cell=cell, pbc=pbc)

    def _dynamics(self, md: dict[str, Any]) -> tuple[dict[str, Given], list[str]]:
        """Keys of the ``dynamics`` section, and what is left out."""
        if str(self._tree.get("+global", {}).get("run_type", "")).lower() not in (
            "md",
            "molecular_dynamics",
        ):
            return {}, []
        name = str(md.get("ensemble", "nve")).lower()
        thermostat = str(md.get("+thermostat", {}).get("type", "nose")).lower()
        ensemble = _THERMOSTATS.get(thermostat) if name == "nvt" else _ENSEMBLES.get(name)
        said = f"ENSEMBLE {name.upper()}" + f", {thermostat.upper()}" * (name == "nvt")
        out, left = dict[str, Given](), list[str]()
        if ensemble is None:
            left.append(f"{said}: give dynamics.ensemble")
        else:
            out["ensemble"] = Given(ensemble, said)
        for keyword, key, kind in (
            ("steps", "steps", int),
            ("timestep", "timestep_fs", float),
            ("temperature", "temperature_K", float),
        ):
            if keyword in md and not (key == "temperature_K" and ensemble == "nve"):
                out[key] = Given(kind(md[keyword]), f"{keyword.upper()} {md[keyword]}")
        pressure = md.get("+barostat", {}).get("pressure")
        if pressure is not None:
            out["pressure_GPa"] = Given(float(pressure) / _BAR_PER_GPA, f"PRESSURE {pressure} bar")
        return out, left


@functools.lru_cache(maxsize=4)  # reading the description of all keywords takes two seconds
def _parser(folder: str) -> Any:
    return CP2KInputParser(base_dir=folder)


@functools.cache
def _generator() -> Any:
    return CP2KInputGenerator()


def _cell(section: dict[str, Any], source: str) -> Cell:
    """The cell of a section &CELL, Angstrom."""
    if all(name in section for name in "abc"):
        return Cell(np.array([section[name] for name in "abc"], dtype=float))
    if "abc" in section:
        angles = section.get("alpha_beta_gamma", [90.0, 90.0, 90.0])
        return Cell.fromcellpar([*section["abc"], *angles])
    raise EngineError(f"{source}: &CELL needs ABC, or A, B and C")


def _listed(section: Any) -> list[dict[str, Any]]:
    """A section that may be given more than once, as a list."""
    return section if isinstance(section, list) else [] if section is None else [section]


def _indices(given: Any) -> list[int]:
    """Numbers of atoms in a keyword LIST, with ranges.

    >>> _indices([["1..3", "7"]])
    [1, 2, 3, 7]
    """
    if isinstance(given, (list, tuple)):
        return [index for part in given for index in _indices(part)]
    first, _, last = str(given).partition("..")
    return list(range(int(first), int(last or first) + 1))


def _element(name: str) -> str:
    """Element that the name of a kind begins with.

    >>> [_element(name) for name in ("Fe2", "O_w", "H")]
    ['Fe', 'O', 'H']
    """
    for length in (2, 1):
        symbol = name[:length].capitalize()
        if symbol in chemical_symbols[1:] and not name[length : length + 1].islower():
            return symbol
    return name


def _in_words(error: Exception) -> str:
    """A parser's error, whose arguments are a message and a context with the line."""
    message = str(error.args[0]) if error.args else type(error).__name__
    context = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], dict) else {}
    line = context.get("line")
    return message + (f" in '{str(line).strip()}'" if line else "")

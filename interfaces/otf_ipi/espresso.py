"""Input files of pw.x of Quantum ESPRESSO: namelists, then cards.

Read by qe-tools (structure, every ``ibrav``) and ASE (namelists). Keywords: INPUT_PW of Quantum
ESPRESSO 6.7 to 7.4.
"""

import io
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers
from ase.io.espresso import Namelist, label_to_symbol, read_fortran_namelist

from otf.arrays import Floats
from otf.engines.extras import install_command
from otf.engines.failures import MORE_ITERATIONS, SAFE_MIXING
from otf.engines.ipi_client import Listener
from otf.engines.job import Given, InputJob, fix_components
from otf.engines.placement import name_species
from otf.errors import EngineError
from otf_ipi.program_input import ProgramInput

try:
    from qe_tools.parsers import PwInputFile
except ImportError:  # the extra 'espresso' is not installed
    PwInputFile = None

_RYDBERG_TIME_FS = 0.0483776866  # dt is in atomic units of Rydberg
_DYNAMICS = ("md", "vc-md")
_THERMOSTATS = {
    "not_controlled": "nve",
    "svr": "csvr",
    "andersen": "langevin",
    "rescaling": "csvr",
    "rescale-v": "csvr",
    "rescale-t": "csvr",
    "reduce-t": "csvr",
    "berendsen": "csvr",
}
_EXACT = ("not_controlled", "svr")
_CELL = re.compile(r"(celldm\(\d\)|a|b|c|cosab|cosac|cosbc)\Z", re.IGNORECASE)
_CARDS = re.compile(
    r"(ATOMIC_SPECIES|ATOMIC_POSITIONS|K_POINTS|ADDITIONAL_K_POINTS|CELL_PARAMETERS|CONSTRAINTS"
    r"|OCCUPATIONS|ATOMIC_VELOCITIES|ATOMIC_FORCES|SOLVENTS|HUBBARD)\b",
    re.IGNORECASE,
)
_STRUCTURE = ("ATOMIC_POSITIONS", "CELL_PARAMETERS", "CONSTRAINTS", "ATOMIC_VELOCITIES")


class EspressoInput(ProgramInput):
    """Input of pw.x."""

    remedies: ClassVar[tuple[str, ...]] = (SAFE_MIXING, MORE_ITERATIONS)

    def job(self) -> InputJob:
        """See :class:`ProgramInput`.

        Masses are taken from inputs for dynamics only: others often have dummies.
        """
        structure = self._parsed.structure
        names = structure["atom_names"]
        try:
            symbols = [label_to_symbol(name) for name in names]
        except KeyError as error:
            raise EngineError(f"{self.source}: ATOMIC_POSITIONS: {error} is no element") from error
        atoms = Atoms(symbols, structure["positions"], cell=structure["cell"], pbc=True)
        of_atoms = []
        dynamic = self._setting("control", "calculation", "scf") in _DYNAMICS
        if dynamic:
            species = structure["species"]
            masses = dict(zip(species["names"], species["masses"], strict=True))
            own = np.array([masses[name] for name in names])
            if np.abs(own - atoms.get_masses()).max() > 0.01:
                of_atoms.append("masses (ATOMIC_SPECIES)")
            atoms.set_masses(own)
        fixed = np.array(self._parsed.atomic_positions["fixed_coords"], dtype=bool)
        of_atoms += fix_components(atoms, fixed, "if_pos of ATOMIC_POSITIONS")
        left = [
            f"{card}: not read"
            for card in ("CONSTRAINTS", "ATOMIC_VELOCITIES")
            if card in (name.upper() for name, _ in self._cards)
        ]
        dynamics, further = self._dynamics() if dynamic else ({}, [])
        return InputJob(atoms, tuple(of_atoms), dynamics, (*left, *further))

    def species(self, symbols: Sequence[str]) -> list[str]:
        """See :class:`ProgramInput`; the names of ATOMIC_SPECIES."""
        elements = {}
        for name in self._parsed.atomic_species["names"]:
            symbol = label_to_symbol(name)
            if symbol not in atomic_numbers:
                raise EngineError(f"{self.source}: ATOMIC_SPECIES: {name} is no element")
            elements[name] = symbol
        return name_species(symbols, self._parsed.structure["atom_names"], elements, self.source)

    def prepared(
        self, atoms: Atoms, species: Sequence[str], listener: Listener, remedies: Collection[str]
    ) -> str:
        """See :class:`ProgramInput`."""
        lists = {name: dict(values) for name, values in self._namelists.items()}
        for name in ("max_seconds", "restart_mode", "wf_collect"):
            lists["control"].pop(name, None)
        lists["control"] |= {
            "calculation": "vc-md",
            "outdir": "./",
            "pseudo_dir": str(self._folder_of_pseudopotentials()),
        }
        system = {key: v for key, v in lists["system"].items() if not _CELL.match(key)}
        system.pop("space_group", None)
        lists["system"] = system | {"ibrav": 0, "nat": len(atoms), "nosym": True}
        electrons = lists.setdefault("electrons", {})
        for name in ("startingpot", "startingwfc"):
            if electrons.get(name) == "file":
                del electrons[name]
        if SAFE_MIXING in remedies:
            electrons["mixing_beta"] = 0.1
        if MORE_ITERATIONS in remedies:
            electrons["electron_maxstep"] = 500
        lists["ions"], lists["cell"] = {}, {"cell_factor": 1.2}
        kept = [
            line
            for name, lines in self._cards
            if name not in _STRUCTURE
            for line in (self._k_points(lines) if name == "K_POINTS" else lines)
        ]
        return "\n".join(
            [
                Namelist(lists).to_string().rstrip(),
                *kept,
                "CELL_PARAMETERS angstrom",
                *(" ".join(f"{x:.12f}" for x in row) for row in atoms.cell.array),
                "ATOMIC_POSITIONS angstrom",
                *(
                    f"{name} " + " ".join(f"{x:.12f}" for x in row)
                    for name, row in zip(species, atoms.positions, strict=True)
                ),
                "",
            ]
        )

    @property
    def field(self) -> str:
        """See :class:`ProgramInput`; ``tefield`` alone may be a dipole correction."""
        if self._setting("control", "lelfield", default=False):
            return "lelfield"
        amplitude = self._setting("system", "eamp", default=0.001)
        return "tefield" if self._setting("control", "tefield", default=False) and amplitude else ""

    @property
    def changes(self) -> list[str]:
        """See :class:`ProgramInput`."""
        if self._setting("system", "nosym", default=False):
            return []
        return [
            "&SYSTEM nosym = .true.: pw.x would keep the symmetries of the first structure for "
            "all later ones"
        ]

    def files(self) -> list[str]:
        """See :class:`ProgramInput`; pseudopotentials are found by ``pseudo_dir``."""
        return []

    @cached_property
    def _parsed(self) -> Any:
        if PwInputFile is None:
            raise EngineError(
                f"{self.source}: input files of pw.x are read by qe-tools: "
                f"{install_command('espresso')}"
            )
        try:
            parsed = PwInputFile(_single_quotes(self.text), validate_species_names=False)
            structure = parsed.structure
        except Exception as error:  # qe-tools raises KeyError, ValueError and its own
            raise EngineError(
                f"{self.source}: is not read as an input of pw.x: {str(error).strip()}"
            ) from error
        if not structure["atom_names"]:
            raise EngineError(f"{self.source}: ATOMIC_POSITIONS has no atoms")
        return parsed

    @cached_property
    def _namelists(self) -> Mapping[str, Mapping[str, Any]]:
        lists, _ = read_fortran_namelist(io.StringIO(_single_quotes(self.text)))
        return {"control": {}, "system": {}} | {
            name: {key.lower(): value for key, value in values.items()}
            for name, values in lists.items()
        }

    @cached_property
    def _cards(self) -> list[tuple[str, list[str]]]:
        """Name and lines of each card, the first line included."""
        _, lines = read_fortran_namelist(io.StringIO(_single_quotes(self.text)))
        cards: list[tuple[str, list[str]]] = []
        for line in lines:
            found = _CARDS.match(line)
            if found is not None:
                cards.append((found.group(1).upper(), []))
            if cards:
                cards[-1][1].append(line)
        return cards

    def _setting(self, namelist: str, key: str, default: Any) -> Any:
        return self._namelists.get(namelist, {}).get(key, default)

    def _k_points(self, lines: list[str]) -> list[str]:
        """K_POINTS, with a list in units of 2 pi/alat in crystal coordinates instead.

        alat changes where a lattice by ``ibrav`` becomes one of three vectors.
        """
        given = self._parsed.k_points
        if given["type"] not in (None, "tpiba"):
            return lines
        cell = np.array(self._parsed.structure["cell"])
        points = np.array(given["points"]) @ cell.T / self._alat_A(cell)
        rows = [
            " ".join(f"{x:.12f}" for x in [*point, weight])
            for point, weight in zip(points, given["weights"], strict=True)
        ]
        return ["K_POINTS crystal", str(len(rows)), *rows]

    def _alat_A(self, cell: Floats) -> float:
        bohr = self._setting("system", "celldm(1)", None)
        if bohr is not None:
            return float(bohr * units.Bohr)
        angstrom = self._setting("system", "a", None)
        return float(angstrom or np.linalg.norm(cell[0]))

    def _folder_of_pseudopotentials(self) -> Path:
        named = self._setting("control", "pseudo_dir", None)
        if named is None:
            return self.folder.absolute()
        return (self.folder / Path(str(named)).expanduser()).absolute()

    def _dynamics(self) -> tuple[dict[str, Given], list[str]]:
        """Keys of the ``dynamics`` section, and what is left out."""
        kind = self._setting("control", "calculation", "")
        thermostat = str(self._setting("ions", "ion_temperature", "not_controlled")).lower()
        langevin = self._setting("ions", "ion_dynamics", "") == "langevin"
        said = "ion_dynamics langevin" if langevin else f"ion_temperature {thermostat}"
        ensemble = "langevin" if langevin else _THERMOSTATS.get(thermostat)
        out, left = dict[str, Given](), list[str]()
        if kind == "vc-md":
            left.append("vc-md: give dynamics.ensemble npt or npt_full and pressure_GPa")
        elif ensemble is None:
            left.append(f"{said}: give dynamics.ensemble")
        else:
            out["ensemble"] = Given(ensemble, said)
        if ensemble not in (None, "nve"):
            if not langevin and thermostat not in _EXACT:
                left.append(f"{said}: is replaced by {ensemble}")
            kelvin = float(self._setting("ions", "tempw", 300.0))
            out["temperature_K"] = Given(kelvin, f"tempw {kelvin:g}")
        dt = float(self._setting("control", "dt", 20.0))
        out["timestep_fs"] = Given(round(dt * _RYDBERG_TIME_FS, 6), f"dt {dt:g}")
        steps = int(self._setting("control", "nstep", 50))
        out["steps"] = Given(steps, f"nstep {steps}")
        return out, left


def _single_quotes(text: str) -> str:
    """The text with strings in single quotes, the only ones that ASE's reader takes.

    >>> _single_quotes('outdir = "./tmp/"')
    "outdir = './tmp/'"
    """
    return re.sub(r'"([^"\n]*)"', r"'\1'", text)

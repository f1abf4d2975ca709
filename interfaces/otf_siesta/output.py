"""Parsing of SIESTA output, 4.1 and 5.x: FORCE_STRESS, XV, MESSAGES and the main output.

==================  ======================================  ===============  =================
quantity            where                                   unit             note
==================  ======================================  ===============  =================
free energy         ``FORCE_STRESS``, line 1                Ry               E_KS − T S
stress              ``FORCE_STRESS``, lines 2–4             Ry/bohr³         +(1/V) dE/deps
forces              ``FORCE_STRESS``, columns 3–5           Ry/bohr          unconstrained
positions           ``.XV``, columns 3–5                    bohr             nine decimals
iterations          output, ``SCF cycle converged after``   –                –
==================  ======================================  ===============  =================

The main output and the socket give the same quantities with fewer digits, with constraints applied,
or without the electronic entropy, and are not used.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from otf.arrays import Floats

BOHR_A = 0.529177
"""Value of the bohr in SIESTA 4.1, for input files."""


class Constants(NamedTuple):
    """Units of SIESTA's files in eV and Angstrom: positions and energies as it prints them."""

    rydberg_eV: float
    bohr_A: float


LEGACY = Constants(13.60580, BOHR_A)
"""Of units.f90 of SIESTA 4.1."""
CODATA_2018 = Constants(1.0 / 7.34986443513115789e-2, 1.0 / 1.88972612462577017)
"""Of units_codata2018.f90 of SIESTA 5, unless it was built with the units of 4.1."""

_CONVERGED = re.compile(r"SCF cycle converged after\s+(\d+)\s+iterations")
_ITERATION = re.compile(r"^\s*scf:\s+(\d+)\s", re.MULTILINE)
_CHANGE = re.compile(r"^\s*scf:\s+1\s.*", re.MULTILINE)
_VALENCE = re.compile(
    r"^atom: Called for [^\n]*\(Z =\s*(\d+)\)"
    r".*?^(?:Total valence charge|Valence charge in pseudo generation):\s*(\S+)",
    re.MULTILINE | re.DOTALL,
)
_VERSION = re.compile(r"^(?:Siesta )?Version\s*:\s*(\S+)", re.MULTILINE)
_MAJOR = re.compile(r"(?:siesta-)?v?(\d+)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Answer:
    """Energy (eV), forces (N, 3) in eV/Angstrom and stress (3, 3) in eV/Angstrom^3, ASE's sign."""

    energy: float
    forces: Floats
    stress: Floats


def constants_of(version: str) -> Constants:
    """Units of a version of SIESTA.

    >>> constants_of("v4.1-b4").bohr_A, round(constants_of("5.4.2").bohr_A, 9)
    (0.529177, 0.529177211)
    """
    major = _MAJOR.match(version)
    return CODATA_2018 if major is not None and int(major.group(1)) >= 5 else LEGACY


def read_force_stress(text: str, units: Constants = LEGACY) -> Answer | None:
    """Results in a ``FORCE_STRESS`` file, or None if they are incomplete."""
    lines = text.splitlines()
    try:
        energy = float(lines[0])
        stress = np.array([[float(x) for x in line.split()] for line in lines[1:4]])
        count = int(lines[4])
        forces = np.array([[float(x) for x in line.split()[2:5]] for line in lines[5 : 5 + count]])
    except (ValueError, IndexError):
        return None
    if stress.shape != (3, 3) or forces.shape != (count, 3):
        return None
    stress = 0.5 * (stress + stress.T)  # the last digits differ by rounding
    return Answer(
        energy * units.rydberg_eV,
        forces * (units.rydberg_eV / units.bohr_A),
        stress * (units.rydberg_eV / units.bohr_A**3),
    )


def read_positions(text: str, units: Constants = LEGACY) -> Floats:
    """Positions (N, 3) of an ``.XV`` file, Angstrom; empty if they are incomplete."""
    lines = text.splitlines()
    try:
        count = int(lines[3])
        rows = [[float(x) for x in line.split()[2:5]] for line in lines[4 : 4 + count]]
        return np.array(rows).reshape(count, 3) * units.bohr_A
    except (ValueError, IndexError):
        return np.zeros((0, 3))


def read_iterations(text: str) -> int | None:
    """Iterations of the last self-consistency cycle that converged, or None."""
    found = _CONVERGED.findall(text)
    return int(found[-1]) if found else None


def iterations_so_far(text: str) -> int:
    """Iterations of the last cycle, converged or not."""
    found = _ITERATION.findall(text)
    return int(found[-1]) if found else 0


def read_first_change(text: str) -> float | None:
    """Largest density-matrix change in the first SCF iteration; None if it was not printed."""
    found = _CHANGE.search(text)
    words = found.group().split() if found else []
    return float(words[5]) if len(words) > 5 else None


def read_valences(text: str) -> dict[int, float]:
    """Core charges by atomic number, for elements whose orbitals SIESTA generated."""
    return {int(number): float(charge) for number, charge in _VALENCE.findall(text)}


def read_version(text: str) -> str:
    """Version of SIESTA, empty if it was not printed."""
    found = _VERSION.search(text)
    return found.group(1) if found else ""

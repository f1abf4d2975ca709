"""Parsing of SIESTA 4.1 output: FORCE_STRESS, XV, MESSAGES and the main output.

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

import numpy as np

from otf.arrays import Floats

RYDBERG_EV = 13.60580
"""SIESTA's value of the Rydberg (units.f90 of 4.1): energies agree with those it prints in eV."""
BOHR_A = 0.529177
"""SIESTA's value of the bohr, used for positions and forces."""

_CONVERGED = re.compile(r"SCF cycle converged after\s+(\d+)\s+iterations")
_ITERATION = re.compile(r"^\s*scf:\s+(\d+)\s", re.MULTILINE)
_CHANGE = re.compile(r"^\s*scf:\s+1\s.*", re.MULTILINE)
_VALENCE = re.compile(
    r"^atom: Called for [^\n]*\(Z =\s*(\d+)\).*?^Total valence charge:\s*(\S+)",
    re.MULTILINE | re.DOTALL,
)
_VERSION = re.compile(r"^Siesta Version\s*:\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class Answer:
    """Energy (eV), forces (N, 3) in eV/Angstrom and stress (3, 3) in eV/Angstrom^3, ASE's sign."""

    energy: float
    forces: Floats
    stress: Floats


def read_force_stress(text: str) -> Answer | None:
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
        energy * RYDBERG_EV,
        forces * (RYDBERG_EV / BOHR_A),
        stress * (RYDBERG_EV / BOHR_A**3),
    )


def read_positions(text: str) -> Floats:
    """Positions (N, 3) of an ``.XV`` file, Angstrom; empty if they are incomplete."""
    lines = text.splitlines()
    try:
        count = int(lines[3])
        rows = [[float(x) for x in line.split()[2:5]] for line in lines[4 : 4 + count]]
        return np.array(rows).reshape(count, 3) * BOHR_A
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

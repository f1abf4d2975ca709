"""Parsing of OpenMX output: the ``.out`` file and the standard output.

=======================  ==========================================================  ==============
quantity                 where                                                       unit
=======================  ==========================================================  ==============
energy Utot              ``.out``, line ``Utot.``                                    Ha
forces                   ``.out``, block ``coordinates.forces``, last three          Ha/bohr
stress                   standard output, ``Stress tensor (Hartree/bohr^3)``         +(1/V) dE/deps
energies of atoms        ``.out``, ``Decomposed.energies…with.respect.to.atom``      Ha
convergence              standard output: OpenMX does not state it in words          –
=======================  ==========================================================  ==============
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from otf.arrays import Floats
from otf.units import HARTREE

BOHR_A = 0.529177249
"""OpenMX's value of the bohr, used for positions and forces."""

_UTOT = re.compile(r"^\s+Utot\.\s+(\S+)", re.MULTILINE)
_ATOMS = re.compile(
    r"Decomposed\.energies\.\(Hartree\)\.with\.respect\.to\.atom\s*\n\s*\n.*\n((?:\s+\d+\s.*\n)+)"
)
_STRESS = re.compile(r"Stress tensor \(Hartree/bohr\^3\)\s*\n\*+\n\s*\n((?:.*\n){3})")
_UELE = re.compile(r"<DFT>\s+Uele\s+=\s+\S+\s+dUele\s+=\s+(\S+)")
_NORM = re.compile(r"<DFT>\s+NormRD\s+=\s+(\S+)\s+Criterion\s+=\s+(\S+)")
_GRID = re.compile(r"Num\. of grids of a-, b-, and c-axes\s*=\s*(\d+),\s*(\d+),\s*(\d+)")
_VERSION = re.compile(r"Welcome to OpenMX\s+Ver\.\s+(\S+)")


@dataclass(frozen=True, eq=False)
class Printed:
    """Results of one run, in otf's units.

    Attributes
    ----------
    energy
        Utot, eV, without the entropy of :mod:`otf_openmx.occupations`.
    positions
        (N, 3) Angstrom, as echoed with five decimals.
    forces
        (N, 3) eV/Angstrom.
    atomic_energies
        (N,) eV, or None.
    """

    energy: float
    positions: Floats
    forces: Floats
    atomic_energies: Floats | None

    def first(self, count: int) -> "Printed":
        """Results of the first atoms only, where empty sites follow them."""
        if count >= len(self.forces):
            return self
        # Part of the energy belongs to the empty sites.
        return Printed(self.energy, self.positions[:count], self.forces[:count], None)


def read_out(text: str) -> Printed | None:
    """Results in an ``.out`` file, or None if they are incomplete."""
    energies = _UTOT.findall(text)
    start, end = text.find("<coordinates.forces"), text.find("coordinates.forces>")
    if not energies or start < 0 or end < start:
        return None
    try:
        rows = [line.split() for line in text[start:end].splitlines()[2:]]
        numbers = np.array([[float(x) for x in row[2:8]] for row in rows])
        energy = float(energies[-1]) * HARTREE
        found = _ATOMS.search(text)
        atoms = None
        if found is not None:
            lines = found.group(1).splitlines()
            atoms = np.array([float(line.split()[2]) for line in lines]) * HARTREE
    except (ValueError, IndexError):
        return None
    if numbers.ndim != 2 or numbers.shape[1] != 6:
        return None
    return Printed(energy, numbers[:, :3], numbers[:, 3:] * (HARTREE / BOHR_A), atoms)


def read_stress(stdout: str) -> Floats | None:
    """Stress (3, 3), eV/Angstrom^3 with ASE's sign, or None if it was not printed."""
    found = _STRESS.findall(stdout)
    if not found:
        return None
    try:
        stress = np.array([[float(x) for x in line.split()] for line in found[-1].splitlines()])
    except ValueError:
        return None
    return stress * (HARTREE / BOHR_A**3) if stress.shape == (3, 3) else None


@dataclass(frozen=True)
class Cycle:
    """Final state of the self-consistency cycle.

    Attributes
    ----------
    iterations
        Number of SCF iterations.
    energy_change, residual, criterion
        dUele (Ha), NormRD and scf.criterion of the last iteration.
    """

    iterations: int
    energy_change: float
    residual: float
    criterion: float

    @property
    def converged(self) -> bool:
        """Whether it converged, by the rule in OpenMX's source: its output does not state it."""
        return (
            self.iterations >= 2
            and abs(self.energy_change) < self.criterion
            and self.residual**2 < 10.0 * self.criterion
        )


def read_cycle(stdout: str) -> Cycle | None:
    """The self-consistency cycle, or None if none was printed."""
    changes, norms = _UELE.findall(stdout), _NORM.findall(stdout)
    if not changes or not norms:
        return None
    residual, criterion = norms[-1]
    try:
        return Cycle(len(changes), float(changes[-1]), float(residual), float(criterion))
    except ValueError:
        return None


def read_grid(stdout: str) -> tuple[int, int, int] | None:
    """Points of the real-space grid along each axis, or None if they were not printed."""
    found = _GRID.search(stdout)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def read_version(stdout: str) -> str:
    """Version of OpenMX, empty if it was not printed."""
    found = _VERSION.search(stdout)
    return found.group(1) if found else ""


def finished(stdout: str) -> bool:
    """Whether the last line states a normal end; that alone proves nothing."""
    lines = stdout.rstrip().splitlines()
    return bool(lines) and "The calculation was normally finished" in lines[-1]


def text(path: Path) -> str:
    """Text of a file, empty if it does not exist."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

"""Unit conversions for input and output; internally, ASE units (eV, Angstrom, amu, K)."""

from ase import units

FS: float = units.fs
"""One femtosecond in ASE's unit of time."""

PS: float = 1000.0 * units.fs
"""One picosecond in ASE's unit of time."""

HARTREE: float = units.Hartree
BOHR: float = units.Bohr
KELVIN: float = units.kB
"""k_B times one kelvin, in eV."""

KJ_PER_MOL: float = units.kJ / units.mol
"""One kJ/mol in eV."""

DEBYE: float = units.Debye
"""One debye in e Angstrom."""

GPA: float = units.GPa
"""One GPa in eV/Angstrom^3."""

MEV: float = 1e-3
"""One meV in eV: divide an energy or a force by it to print meV or meV/Angstrom."""

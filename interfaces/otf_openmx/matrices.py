"""Converged Hamiltonian, overlap and density matrix of an OpenMX label."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from otf.arrays import Floats, Ints
from otf.engines.input_deck import Deck
from otf.errors import EngineError
from otf.orbitals.atomic_densities import RoundDensity
from otf.orbitals.block_matrices import BlockMatrix, Matrices, RadialFunctions
from otf_openmx.geometry import species_elements
from otf_openmx.orbitals import atomic_densities, radial_functions, shells_of, to_blocks
from otf_openmx.scfout import read_scfout

_HARTREE_EV = 27.2113845  # OpenMX's own
_KELVIN = 8.617333262e-5  # eV
_SPINS = 2.0


@dataclass(frozen=True, eq=False)
class Occupation:
    """Data that belong to the matrices but are not in the ``.scfout`` file.

    Attributes
    ----------
    numbers
        (N,) atomic numbers.
    bases
        Basis of each atomic number, as OpenMX names it.
    cores
        (N,) valence charges.
    kpoints
        (K, 3), fractional, the whole grid; None for a molecule.
    smearing_eV
        Width of the Fermi-Dirac distribution.
    orbitals
        Radial functions of each element; None if a file is missing.
    elements
        Valence densities of the isolated atoms; None likewise.
    """

    numbers: Ints
    bases: dict[int, str]
    cores: Floats
    kpoints: Floats | None
    smearing_eV: float
    orbitals: dict[int, RadialFunctions] | None
    elements: dict[int, RoundDensity] | None


def occupation_of(deck: Deck, atoms: Atoms, valence: dict[str, float], key: str) -> Occupation:
    """Data needed to build the density matrices of a run.

    Parameters
    ----------
    key
        Option that requires the matrices, for messages.
    valence
        Valence electrons of each species.

    Raises
    ------
    EngineError
        If matrices of these atoms cannot be learned; the message states why.
    """
    if (deck.value("scf.SpinPolarization") or "off").lower() != "off":
        raise EngineError(f"{key}: not available with scf.SpinPolarization; leave it out")
    lines = deck.block("Definition.of.Atomic.Species") or ()
    elements = species_elements(deck)
    if deck.flag("scf.Hubbard.U") and len(set(elements.values())) < len(elements):
        raise EngineError(
            f"{key}: with scf.Hubbard.U, matrices are learned only if each element has one "
            "species; leave it out"
        )
    bases: dict[int, str] = {}
    definitions: dict[str, list[str]] = {}
    for line in lines:
        name, *definition = line.split()[:3]
        element = elements[name]
        if definitions.setdefault(element, definition) != definition:
            raise EngineError(
                f"{key}: matrices are learned only if all species of an element have one basis "
                f"and pseudopotential, unlike those of {element}; leave it out"
            )
        try:
            shells_of(definition[0])
        except ValueError as error:
            raise EngineError(f"{key}: {error}; leave it out") from error
        bases[atomic_numbers[element]] = definition[0]
    cores = {element: valence[name] for name, element in elements.items()}
    folder = Path(str(deck.value("DATA.PATH"))) / "PAO"
    electrons = {atomic_numbers[element]: count for element, count in cores.items()}
    kelvin = float(deck.value("scf.ElectronicTemperature") or 300.0)
    counts = [int(n) for n in (deck.value("scf.Kgrid") or "1 1 1").split()]
    return Occupation(
        np.asarray(atoms.numbers, dtype=np.int64),
        bases,
        np.array([cores[symbol] for symbol in atoms.symbols]),
        _grid(counts) if atoms.pbc.any() else None,
        kelvin * _KELVIN,
        radial_functions(folder, bases),
        atomic_densities(folder, bases, electrons),
    )


def _grid(counts: list[int]) -> Floats:
    """OpenMX's k points: midpoints of the divisions of the Brillouin zone."""
    axes = [-0.5 + (2.0 * np.arange(n) + 1.0) / (2.0 * n) for n in counts]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def read_matrices(path: Path, known: Occupation) -> Matrices:
    """Read the converged matrices of a label.

    Raises
    ------
    EngineError
        If the file is missing or damaged.
    ValueError
        If its orbitals differ from those of the input.
    """
    found = read_scfout(path)
    hamiltonian, overlap, density = (
        to_blocks(matrix, found, known.numbers, known.bases)
        for matrix in (found.hamiltonian[0], found.overlap, found.density[0])
    )
    hamiltonian = hamiltonian.with_values(_HARTREE_EV * hamiltonian.values)
    density = density.with_values(_SPINS * density.values)
    if known.kpoints is None:
        # Which blocks exist depends on the distances; for a molecule all are kept.
        hamiltonian, overlap, density = (
            BlockMatrix.of_dense(b.numbers, b.shells, b.dense())
            for b in (hamiltonian, overlap, density)
        )
    return Matrices(
        hamiltonian,
        overlap,
        density,
        found.electrons,
        known.cores,
        known.kpoints,
        known.smearing_eV,
        orbitals=known.orbitals,
    )

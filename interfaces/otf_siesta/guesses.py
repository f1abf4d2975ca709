"""Initial density matrices for SIESTA, and its converged matrices.

This uses sisl, which is optional and slow to import: it is imported only when needed.
"""

import importlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from otf.arrays import Floats
from otf.engines.extras import install_command
from otf.engines.input_deck import Deck
from otf.errors import EngineError
from otf.orbitals.block_matrices import BlockMatrix, Matrices, RadialFunctions
from otf_siesta.geometry import pseudopotentials, species_elements
from otf_siesta.options import gamma_only
from otf_siesta.output import read_valences

_LOG = logging.getLogger("otf.siesta")
_DEFAULT_TEMPERATURE = "300 K"
_KELVIN = 8.617333262e-5  # eV
_UNITS_EV = {"k": _KELVIN, "ev": 1.0, "mev": 1e-3, "ry": 13.60580, "ha": 27.21160}
_SINGLE = 1e-9
_WHAT, _REMEDY = "engine.warm_start", "; leave it at true"
_OF_SPECIES = (
    "PAO.Basis", "PAO.BasisSizes", "PAO.PolarizationScheme",
    "PS.lmax", "PS.KBprojectors", "LDAU.Proj", "DFTU.Proj",
)  # fmt: skip
"""Blocks of which a species can have a part of its own."""
_HEADER = 1 << 18  # characters read of an output that grows with every label


@dataclass(frozen=True, eq=False)
class Occupation:
    """Occupation of the orbitals of a crystal in SIESTA.

    Attributes
    ----------
    kpoints
        (K, 3), fractional, the whole grid.
    smearing_eV
        Width of the occupations.
    methfessel_paxton
        Order of the occupations of Methfessel and Paxton; None for those of Fermi and Dirac.
    """

    kpoints: Floats
    smearing_eV: float
    methfessel_paxton: int | None = None


def occupation_of(
    deck: Deck,
    atoms: Atoms,
    spin: int,
    *,
    what: str = _WHAT,
    remedy: str = _REMEDY,
) -> Occupation | None:
    """Occupation used to build density matrices; None for a molecule.

    Parameters
    ----------
    what, remedy
        Begin and end of messages: what needs the matrices, and what to do without.

    Raises
    ------
    EngineError
        If density matrices cannot be built for these atoms; the message states why.
    """
    try:
        importlib.import_module("sisl")
    except ImportError as error:
        raise EngineError(
            f"{what}: matrices of SIESTA need sisl ({error}): {install_command('siesta')}{remedy}"
        ) from error
    unpolarised = (deck.value("Spin") or "none").lower() in ("none", "non-polarized")
    if spin or not unpolarised or deck.flag("SpinPolarized"):
        raise EngineError(f"{what}: matrices are learned of closed shells only{remedy}")
    if not atoms.pbc.any():
        return None
    found = np.zeros((1, 3)) if gamma_only(deck) else _grid(deck)
    if found is None:
        raise EngineError(
            f"{what}: matrices of a crystal are learned at the Gamma point or with a diagonal "
            f"kgrid_Monkhorst_Pack only{remedy}"
        )
    words = (deck.value("ElectronicTemperature") or _DEFAULT_TEMPERATURE).split()
    unit = _UNITS_EV[words[1].lower()] if len(words) > 1 else _UNITS_EV["ry"]
    order = None
    if (deck.value("OccupationFunction") or "FD").upper() == "MP":
        order = int(deck.value("OccupationMPOrder") or 1)
    return Occupation(found, float(words[0]) * unit, order)


def require_alike(deck: Deck, folder: Path, *, what: str = _WHAT, remedy: str = _REMEDY) -> None:
    """Check that all species of an element have the same pseudopotential, basis and projectors.

    Parameters
    ----------
    folder
        Folder of the pseudopotentials.
    what, remedy
        See :func:`occupation_of`.

    Raises
    ------
    EngineError
        If they differ.
    """
    elements, named = species_elements(deck), pseudopotentials(deck)
    words = [line.split()[:1] for name in _OF_SPECIES for line in deck.block(name) or ()]
    own = {word[0] for word in words if word and word[0] in elements}
    for element in set(elements.values()):
        labels = [label for label, other in elements.items() if other == element]
        paths = [path for label in labels for path in folder.glob(f"{label}.*") if _is_pseudo(path)]
        contents = {path.read_bytes() for path in paths}
        differ = len(contents) > 1 or len({named.get(label) for label in labels}) > 1
        if len(labels) > 1 and (differ or own & set(labels)):
            raise EngineError(
                f"{what}: matrices are learned only if all species of an element have the same "
                f"basis, pseudopotential and projectors, unlike {' and '.join(labels)}{remedy}"
            )


def _is_pseudo(path: Path) -> bool:
    return path.suffix in (".psf", ".vps", ".psml")


def _grid(deck: Deck) -> Floats | None:
    """All points of a k-point grid; None if it is not given as a diagonal matrix."""
    lines = deck.block("kgrid_Monkhorst_Pack") or deck.block("kgrid.MonkhorstPack")
    if lines is None:
        return None
    rows = np.array([[float(x) for x in line.split()[:4]] for line in lines[:3]])
    counts = np.diag(rows[:, :3])
    if np.abs(rows[:, :3] - np.diag(counts)).max() > _SINGLE:
        return None
    shifts = rows[:, 3] if rows.shape[1] > 3 else np.zeros(3)
    axes = [(np.arange(n) + s) / n for n, s in zip(counts, shifts, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def read_matrices(directory: Path, label: str, occupation: Occupation | None) -> Matrices | None:
    """Read the converged matrices of a label; None if SIESTA did not write them."""
    from otf_siesta.matrices import read_density, read_geometry, read_hamiltonian

    paths = [directory / f"{label}.{end}" for end in ("TSHS", "DM")]
    if not all(path.exists() for path in paths):
        return None
    geometry = read_geometry(directory, label)
    with (directory / f"{label}.out").open(encoding="utf-8", errors="replace") as output:
        valences = read_valences(output.read(_HEADER))
    hamiltonian = read_hamiltonian(paths[0], geometry)
    return matrices_of(hamiltonian, read_density(paths[1], geometry), valences, occupation)


def matrices_of(
    hamiltonian: Any, density: Any, valences: Mapping[int, float], occupation: Occupation | None
) -> Matrices:
    """Matrices of a label from the sparse ones of sisl.

    Parameters
    ----------
    valences
        Valence charges by atomic number; those of missing elements are unknown.
    occupation
        That of a crystal; None for a molecule.
    """
    from otf_siesta.orbitals import to_blocks

    found = [
        to_blocks(hamiltonian),
        to_blocks(hamiltonian, hamiltonian.S_idx),
        to_blocks(density),
    ]
    cores = np.array([valences.get(int(z), np.nan) for z in hamiltonian.geometry.atoms.Z])
    if occupation is None:
        # Which blocks exist depends on the distances; for a molecule all are kept.
        found = [BlockMatrix.of_dense(b.numbers, b.shells, b.dense()) for b in found]
    h, s, p = found
    electrons = float(np.vdot(s.values, p.on(s.pairs).values))
    if occupation is None:
        return Matrices(h, s, p, electrons, cores)
    return Matrices(
        h,
        s,
        p,
        electrons,
        cores,
        occupation.kpoints,
        occupation.smearing_eV,
        occupation.methfessel_paxton,
    )


def read_orbitals(
    directory: Path, elements: Mapping[str, str]
) -> dict[int, RadialFunctions] | None:
    """Read the radial functions of each element; None if SIESTA did not write them.

    Parameters
    ----------
    elements
        Chemical symbol of each species label.
    """
    from otf_siesta.orbitals import radial_functions

    if not all((directory / f"{label}.ion.xml").exists() for label in elements):
        return None
    labels = {label: atomic_numbers[symbol] for label, symbol in elements.items()}
    return radial_functions(directory, labels)


def begin_from(guess: BlockMatrix | None, before: Path | None, directory: Path, label: str) -> None:
    """Write an initial density guess, if there is one in this basis, for SIESTA to start from.

    Parameters
    ----------
    before
        Directory of the previous label, which has the same orbitals.
    directory
        Working directory of SIESTA.
    """
    if guess is None or before is None:
        return
    try:
        write_guess(guess, before, directory, label)
    except EngineError as error:  # the label starts from the density matrix before
        _LOG.warning("the initial density guess is not used: %s", error)


def write_guess(guess: BlockMatrix, before: Path, directory: Path, label: str) -> None:
    """Write a density matrix for SIESTA to start from.

    Raises
    ------
    EngineError
        If it is of another basis.
    """
    from otf_siesta.matrices import read_density, read_geometry, write_density
    from otf_siesta.orbitals import from_blocks

    known = read_density(before / f"{label}.DM", read_geometry(before, label))
    write_density(directory / f"{label}.DM", from_blocks(guess, known))

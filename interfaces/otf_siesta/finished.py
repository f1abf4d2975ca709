"""Structure and matrices of a SIESTA calculation that was not run by otf.

This uses sisl, which is optional and slow to import: it is imported only when needed.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ase import Atoms

from otf.engines.input_deck import Deck
from otf.engines.protocol import FinishedCalculation
from otf.errors import EngineError
from otf.orbitals.block_matrices import Matrices
from otf_siesta.fdf import read
from otf_siesta.geometry import read_structure, species_elements
from otf_siesta.guesses import (
    Occupation,
    matrices_of,
    occupation_of,
    read_orbitals,
    require_alike,
)
from otf_siesta.output import read_valences

_SYSTEM = re.compile(r"System type\s*=\s*(\w+)")


def read_finished(folder: Path) -> FinishedCalculation | None:
    """Structure and matrices of the calculation in a folder; None if there is none.

    It needs the input, ``.TSHS`` (``TS.HS.Save T``), ``.DM`` or ``.TSDE``, the output, and
    ``.ORB_INDX`` there or one folder above; for densities the ``.ion.xml`` files, likewise.

    Raises
    ------
    EngineError
        If a file is missing or cannot be used.
    """
    stored = sorted(folder.glob("*.TSHS"))
    if not stored:
        return None
    label = stored[0].stem
    deck, output = _input(folder, label), _output(folder)
    atoms, elements = read_structure(deck), species_elements(deck)
    if not atoms.numbers.all():
        raise EngineError(f"{folder}: has ghosts, whose orbitals cannot be learned")
    system = _SYSTEM.search(output)
    if system is not None and system[1] == "molecule":
        atoms.pbc = False
    occupation = occupation_of(deck, atoms, spin=0, what=str(folder), remedy="")
    require_alike(deck, folder, what=str(folder), remedy="")
    try:
        matrices = _matrices(folder, label, atoms, read_valences(output), occupation)
        above = next((f for f in (folder, folder.parent) if any(f.glob("*.ion.xml"))), folder)
        orbitals = read_orbitals(above, elements)
    except EngineError:
        raise
    except Exception as error:  # sisl raises various errors
        raise EngineError(f"{folder}: its matrices cannot be read ({error})") from error
    return FinishedCalculation(atoms, replace(matrices, orbitals=orbitals))


def _matrices(
    folder: Path,
    label: str,
    atoms: Atoms,
    valences: dict[int, float],
    occupation: Occupation | None,
) -> Matrices:
    """Matrices of the last structure, to which the atoms are moved."""
    from otf_siesta.matrices import geometry_of, read_hamiltonian, structure_of

    path = folder / f"{label}.TSHS"
    last = structure_of(path)
    atoms.set_cell(last.cell)
    atoms.set_positions(last.positions)
    geometry = geometry_of(atoms, _there_or_above(folder, f"{label}.ORB_INDX"))
    hamiltonian = read_hamiltonian(path, geometry)
    if occupation is not None and max(hamiltonian.geometry.lattice.nsc) == 1:
        raise EngineError(
            f"{path}: has sums over images, as SIESTA writes them at the Gamma point; run it again "
            "with ForceAuxCell T"
        )
    return matrices_of(hamiltonian, _density(folder, label, geometry), valences, occupation)


def _input(folder: Path, label: str) -> Deck:
    """The input file of a system label."""
    for path in sorted(folder.glob("*.fdf")):
        if not path.name.startswith("fdf-"):
            deck = read(path)
            if (deck.value("SystemLabel") or "siesta").strip() == label:
                return deck
    raise EngineError(f"{folder}: has {label}.TSHS, but no .fdf with SystemLabel {label}")


def _output(folder: Path) -> str:
    """What SIESTA printed; empty if it was not kept."""
    texts = (
        path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*.out"))
    )
    return next((text for text in texts if "siesta" in text.lower()), "")


def _density(folder: Path, label: str, geometry: Any) -> Any:
    """The density matrix, from either file that has it."""
    from otf_siesta.matrices import read_densities, read_density

    path = folder / f"{label}.TSDE"
    if path.exists():
        return read_densities(path, geometry).density
    return read_density(folder / f"{label}.DM", geometry)


def _there_or_above(folder: Path, name: str) -> Path:
    above = folder.parent / name
    return above if above.exists() and not (folder / name).exists() else folder / name

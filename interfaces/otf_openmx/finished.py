"""Structure and matrices of an OpenMX calculation that was not run by otf."""

from pathlib import Path

from otf.engines.protocol import FinishedCalculation
from otf.errors import EngineError
from otf_openmx.deck import OpenmxDeck, read
from otf_openmx.geometry import read_structure
from otf_openmx.matrices import occupation_of, read_matrices
from otf_openmx.options import valence_of_species
from otf_openmx.scfout import read_scfout


def read_finished(folder: Path) -> FinishedCalculation | None:
    """Structure and matrices of the calculation in a folder; None if there is none.

    It needs the ``.scfout`` file (``HS.fileout on``), the input, and the folder of basis functions
    and pseudopotentials that the input names (``DATA.PATH``).

    Raises
    ------
    EngineError
        If a file is missing or cannot be used.
    """
    stored = sorted(folder.glob("*.scfout"))
    if not stored:
        return None
    deck = _input(folder, stored[0].stem)
    data = folder / (deck.value("DATA.PATH") or "../DFT_DATA19")
    deck.put("DATA.PATH", str(data))
    if not data.is_dir():
        raise EngineError(
            f"{folder}: needs {data}, which its input names as DATA.PATH: correct the path there"
        )
    atoms, last = read_structure(deck), read_scfout(stored[0])
    if len(last.positions) != len(atoms):
        raise EngineError(
            f"{folder}: {deck.source} has {len(atoms)} atoms, {stored[0].name} "
            f"{len(last.positions)}; empty sites cannot be learned"
        )
    # Of the last structure of a relaxation or of dynamics.
    atoms.set_cell(last.cell)
    atoms.set_positions(last.positions)
    solver = (deck.value("scf.EigenvalueSolver") or "cluster").strip().lower()
    atoms.pbc = not solver.startswith("cluster")
    try:
        known = occupation_of(deck, atoms, valence_of_species(deck), str(folder))
        return FinishedCalculation(atoms, read_matrices(stored[0], known))
    except (OSError, ValueError) as error:
        raise EngineError(f"{folder}: {error}") from error


def _input(folder: Path, name: str) -> OpenmxDeck:
    """The input file of a system name."""
    for path in sorted(folder.glob("*.dat")):
        deck = read(path)
        if (deck.value("System.Name") or "default").strip() == name:
            return deck
    raise EngineError(f"{folder}: has {name}.scfout, but no .dat with System.Name {name}")

"""Conversion of structures for programs with periodic cells and named species."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.errors import EngineError

_LOG = logging.getLogger("otf.placement")

_SMALLEST_GAP_A = 1.5


def periodic_cell(atoms: Atoms, vacuum_A: float) -> Floats:
    """The cell (3, 3) of a structure, or a box around a molecule that has none, Angstrom.

    Raises
    ------
    EngineError
        If it is periodic in only some directions.

    >>> periodic_cell(Atoms("H2", positions=[(0, 0, 0), (0, 0, 1)]), 4.0).diagonal()
    array([8., 8., 9.])
    """
    if atoms.pbc.any() and not atoms.pbc.all():
        raise EngineError(
            "the program is periodic in all three directions; give cell vectors with vacuum and "
            "set pbc to T T T"
        )
    if atoms.cell.rank == 3:
        return np.array(atoms.cell.array)
    return np.diag(np.ptp(atoms.positions, axis=0) + 2.0 * vacuum_A)


def cell_for(atoms: Atoms, *, vacuum_A: float, template: Floats | None, source: str) -> Floats:
    """The cell (3, 3) of a structure, or for a molecule without one that of a template, or a box.

    Parameters
    ----------
    vacuum_A
        See :func:`periodic_cell`.
    template
        (3, 3), Angstrom; None if there is none.
    source
        Name of the template, for messages.

    Raises
    ------
    EngineError
        If the structure is periodic in only some directions, or a molecule would touch its images
        in the template's cell.
    """
    if template is None or atoms.pbc.any() or atoms.cell.rank == 3:
        return periodic_cell(atoms, vacuum_A)
    scaled = atoms.positions @ np.linalg.inv(template)
    gaps = (1.0 - np.ptp(scaled, axis=0)) * np.linalg.norm(template, axis=1)
    if gaps.min() < _SMALLEST_GAP_A:
        raise EngineError(
            f"{source}: its cell leaves {gaps.min():.1f} Angstrom between the molecule and its "
            "image; give the structure a cell, or set engine.vacuum_A"
        )
    _LOG.info("cell of the molecule, of %s: %s A", source, template.round(4).tolist())
    return template


def placed(atoms: Atoms, cell: Floats) -> Atoms:
    """A structure in its own cell if it is periodic, otherwise in the given cell (3, 3)."""
    out = atoms.copy()
    if not atoms.pbc.all():
        out.set_cell(cell)
        out.pbc = True
    return out


def name_species(
    symbols: Sequence[str],
    template: Sequence[str],
    elements: Mapping[str, str],
    source: str,
) -> list[str]:
    """Species name of each atom: as in the template, if it has the same atoms.

    Parameters
    ----------
    symbols
        Element of each atom.
    template
        Species name of each atom of the template.
    elements
        Element of each species name.
    source
        Name of the template, for messages.

    Raises
    ------
    EngineError
        If an element has no species, or several that the template does not assign to atoms.
    """
    if [elements.get(name) for name in template] == list(symbols):
        return list(template)
    out = []
    for symbol in symbols:
        fitting = [name for name, element in elements.items() if element == symbol]
        if len(fitting) != 1:
            raise EngineError(
                f"{source}: {len(fitting)} species are {symbol}; give the template the atoms of "
                "the run in their order, or one species for each element"
            )
        out.append(fitting[0])
    return out

"""SIESTA matrices as atom-pair blocks, ordered as in :mod:`otf.orbitals.block_matrices`.

SIESTA orders orbitals shell by shell with m = -l … l, as otf does; its real harmonics are (-1)^m
times those of otf. Columns run over the orbitals of the auxiliary supercell.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import sisl

from otf.arrays import Floats, Ints
from otf.orbitals.block_matrices import BlockMatrix, Pairs, RadialFunctions, Shells

_LEAST = 1e-14
_POINTS = 2000  # of a radial function


def shells_of(geometry: sisl.Geometry) -> Shells:
    """Degrees of the shells of each element.

    Raises
    ------
    ValueError
        If atoms of one element have different bases.
    """
    found: dict[int, tuple[int, ...]] = {}
    for atom in geometry.atoms.atom:
        degrees = tuple(int(o.l) for o in atom.orbitals if o.m == -o.l)
        if found.setdefault(int(atom.Z), degrees) != degrees:
            raise ValueError(f"species of element {atom.symbol} have different bases")
    return found


def to_blocks(matrix: Any, column: int = 0) -> BlockMatrix:
    """Convert a sparse matrix of sisl to dense atom-pair blocks."""
    geometry = matrix.geometry
    sparse = matrix.tocsr(column).tocoo()
    n_orbitals = geometry.no
    cells, inside = np.divmod(sparse.col, n_orbitals)
    atom_of, first_orbital = _atoms(geometry)
    i, j = atom_of[sparse.row], atom_of[inside]
    keys, where = np.unique(np.column_stack([i, j, cells]), axis=0, return_inverse=True)
    offsets = np.asarray(geometry.lattice.sc_off, dtype=np.int64)
    pairs = Pairs(keys[:, 0], keys[:, 1], offsets[keys[:, 2]])
    numbers = np.asarray(geometry.atoms.Z, dtype=np.int64)
    blank = BlockMatrix(numbers, shells_of(geometry), pairs, np.empty(0))
    widths = blank.widths
    values = np.zeros(int((widths[pairs.first] * widths[pairs.second]).sum()))
    row, across = sparse.row - first_orbital[i], inside - first_orbital[j]
    sign = _signs(geometry)
    at = blank.starts[where.ravel()] + row * widths[j] + across
    values[at] = sparse.data * sign[sparse.row] * sign[inside]
    return blank.with_values(values)


def from_blocks(matrix: BlockMatrix, like: sisl.DensityMatrix) -> sisl.DensityMatrix:
    """Inverse of :func:`to_blocks`, with at least the sparsity of another SIESTA matrix.

    Raises
    ------
    EngineError
        If it is of another basis.
    """
    geometry = like.geometry
    matrix.require_shells(shells_of(geometry))
    first_orbital = _atoms(geometry)[1]
    sign, widths = _signs(geometry), matrix.widths
    offsets = {tuple(offset): k for k, offset in enumerate(geometry.lattice.sc_off.tolist())}
    rows, columns, data = [], [], []
    for i, j, shift, at in zip(
        matrix.pairs.first, matrix.pairs.second, matrix.pairs.shifts.tolist(), matrix.starts,
        strict=True,
    ):  # fmt: skip
        cell = offsets.get(tuple(shift))
        if cell is None:
            continue
        block = matrix.values[at : at + widths[i] * widths[j]].reshape(widths[i], widths[j])
        here = first_orbital[i] + np.arange(widths[i])
        there = first_orbital[j] + np.arange(widths[j])
        signed = block * sign[here][:, None] * sign[there]
        rows.append(np.repeat(here, widths[j]))
        columns.append(np.tile(there + cell * geometry.no, widths[i]))
        data.append(signed.ravel())
    shape = (geometry.no, geometry.no * len(geometry.lattice.sc_off))
    whole = scipy.sparse.csr_matrix(
        (np.concatenate(data), (np.concatenate(rows), np.concatenate(columns))), shape
    )
    wanted = like.tocsr(0)
    pattern = scipy.sparse.csr_matrix(
        (np.ones(len(wanted.indices)), wanted.indices, wanted.indptr), shape
    )
    kept = whole + pattern * _LEAST  # elements that are zero stay in the pattern
    return sisl.DensityMatrix.fromsp(geometry, [kept.tocsr()])


def _atoms(geometry: sisl.Geometry) -> tuple[Ints, Ints]:
    """Atom of each orbital, and first orbital of each atom."""
    first = np.asarray(geometry.firsto, dtype=np.int64)
    return np.repeat(np.arange(geometry.na), np.diff(first)), first


def _signs(geometry: sisl.Geometry) -> Floats:
    """(-1)^m of each orbital."""
    return np.array([(-1.0) ** abs(int(o.m)) for a in geometry.atoms for o in a.orbitals])


def radial_functions(directory: Path, labels: Mapping[str, int]) -> dict[int, RadialFunctions]:
    """Radial functions of each element, from the ``.ion.xml`` files of a run.

    Parameters
    ----------
    labels
        Atomic number of each species label.
    """
    found = {}
    for label, number in labels.items():
        atom = sisl.get_sile(directory / f"{label}.ion.xml").read_basis()
        shells = [orbital for orbital in atom.orbitals if orbital.m == -orbital.l]
        reach = max(float(orbital.R) for orbital in shells)
        distances = np.linspace(0.0, reach, _POINTS)
        values = np.array([orbital.radial(distances) for orbital in shells])
        found[number] = RadialFunctions(distances, np.nan_to_num(values))
    return found

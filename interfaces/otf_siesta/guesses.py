"""Density matrices that SIESTA starts from, and the matrices it ends with, of molecules.

By sisl, which takes its time to load and is not there for everybody: it is asked for when needed.
"""

import importlib
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.errors import EngineError
from otf.orbitals import BlockMatrix, Matrices


def check_guesses(atoms: Atoms, spin: int) -> None:
    """Whether density matrices can be made for these atoms.

    Raises
    ------
    EngineError
        If not; the message says why.
    """
    try:
        importlib.import_module("sisl")
    except ImportError as error:
        raise EngineError(
            f"engine.warm_start: it needs sisl ({error}): pip install 'otf-aimd[siesta]', or leave "
            "it at true"
        ) from error
    if atoms.pbc.any() or spin:
        raise EngineError(
            "engine.warm_start: density matrices are guessed for molecules without unpaired "
            "electrons; leave it at true"
        )


def read_matrices(directory: Path, label: str) -> Matrices | None:
    """What a label ended with; None where SIESTA did not write it."""
    from otf_siesta.matrices import read_density, read_geometry, read_hamiltonian
    from otf_siesta.orbitals import to_blocks

    paths = [directory / f"{label}.{end}" for end in ("TSHS", "DM")]
    if not all(path.exists() for path in paths):
        return None
    geometry = read_geometry(directory, label)
    read = read_hamiltonian(paths[0], geometry)
    found = [
        to_blocks(read),
        to_blocks(read, read.S_idx),
        to_blocks(read_density(paths[1], geometry)),
    ]
    # Which blocks there are follows the distances; those of a molecule are all of them.
    hamiltonian, overlap, density = (
        BlockMatrix.of_dense(b.numbers, b.shells, b.dense()) for b in found
    )
    electrons = float(np.vdot(overlap.values, density.values))
    return Matrices(hamiltonian, overlap, density, electrons)


def begin_from(guess: BlockMatrix | None, before: Path | None, directory: Path, label: str) -> None:
    """Put a guess where SIESTA looks for its density matrix.

    Parameters
    ----------
    before
        Directory of the label before, whose orbitals and elements the guess has.
    directory
        Where SIESTA runs.
    """
    if guess is None or before is None:
        return
    from otf_siesta.matrices import read_density, read_geometry, write_density
    from otf_siesta.orbitals import from_blocks

    known = read_density(before / f"{label}.DM", read_geometry(before, label))
    write_density(directory / f"{label}.DM", from_blocks(guess, known))

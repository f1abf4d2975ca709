"""Hamiltonians of carbon by SIESTA: learned, after one step, and self-consistent.

Shared by the examples that learn from graphene: nanotubes and twisted bilayers.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.arrays import Floats
from otf.electrons.bloch import density_of
from otf.electrons.density_guesses import describe
from otf.electrons.levels import Levels, levels_of
from otf.electrons.matrix_model import MatrixModel
from otf.engines.labels import LabelFailure
from otf.engines.protocol import DensityGuess
from otf.orbitals.block_matrices import BlockMatrix, Matrices
from otf_siesta.engine import SiestaEngine
from otf_siesta.options import Options

BOND_A = 1.42
VACUUM_A = 6.0
MESH_RY = 120
TEMPERATURE_K = 1000.0
KPoints = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Compared:
    """A structure with its Hamiltonians: self-consistent, learned, and of the learned density."""

    known: Matrices
    learned: BlockMatrix
    stepped: BlockMatrix

    def error_meV(self) -> float:
        """Mean absolute error of the learned Hamiltonian where it is not zero."""
        off = self.learned.values - self.known.hamiltonian.values
        return 1e3 * float(np.abs(off[self.known.hamiltonian.values != 0.0]).mean())

    def levels(self) -> tuple[Levels, Levels, Levels]:
        """Levels of the self-consistent, the learned and the other Hamiltonian."""
        true, learned, stepped = (
            levels_of(h, self.known.overlap, self.known.electrons, self.known.kpoints)
            for h in (self.known.hamiltonian, self.learned, self.stepped)
        )
        return true, learned, stepped


@dataclass(frozen=True)
class Siesta:
    """SIESTA for carbon.

    Attributes
    ----------
    command, pseudos, basis
        The program, the folder with ``C.psf``, and the basis.
    folder
        Scratch.
    """

    command: str
    pseudos: str
    basis: str
    folder: Path

    def learned(self, structures: Sequence[Atoms], kpoints: KPoints) -> MatrixModel:
        """A model of the Hamiltonians of structures."""
        labels = []
        for number, atoms in enumerate(structures):
            engine = self._opened(atoms, kpoints, f"learned-{number}")
            labels.append(_labelled(engine, atoms))
        first = labels[0].hamiltonian
        model = MatrixModel(first.shells, ("hamiltonian", "overlap"), describe(first))
        for atoms, known in zip(structures, labels, strict=True):
            model.learn(atoms, {"hamiltonian": known.hamiltonian, "overlap": known.overlap})
        return model

    def compared(self, model: MatrixModel, atoms: Atoms, kpoints: KPoints, name: str) -> Compared:
        """Hamiltonians of a structure."""
        engine = self._opened(atoms, kpoints, name)
        known = _labelled(engine, atoms)
        assert known.kpoints is not None
        found = model.predict(atoms, known.hamiltonian.pairs)["hamiltonian"]
        # The potential far from a sheet differs, so the zero of energy is arbitrary.
        overlap = known.overlap.on(known.hamiltonian.pairs).values
        learned = _aligned(found, known.hamiltonian.values, overlap)
        density = density_of(
            learned, known.overlap, known.electrons, known.kpoints, known.smearing_eV
        )
        stepped = engine.one_step(atoms, index=1, guess=DensityGuess(density))
        if isinstance(stepped, LabelFailure):
            raise SystemExit(f"no Hamiltonian: {stepped.reason}")
        after = stepped.hamiltonian.on(known.hamiltonian.pairs)
        return Compared(known, learned, _aligned(after, known.hamiltonian.values, overlap))

    def _opened(self, atoms: Atoms, kpoints: KPoints, name: str) -> SiestaEngine:
        given = {
            "command": self.command,
            "pseudo_path": self.pseudos,
            "basis": self.basis,
            "mesh_cutoff_ry": MESH_RY,
            "kpoints": list(kpoints),
            "electronic_temperature_K": TEMPERATURE_K,
            "connection": "process",
            "warm_start": "learned",
        }
        engine = SiestaEngine(Options.model_validate(given), charge=0, spin=0)
        engine.open(atoms, self.folder / name)
        return engine


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """Options of both examples."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--siesta", default="siesta", help="the program")
    parser.add_argument("--pseudos", required=True, help="folder with C.psf")
    parser.add_argument("--basis", default="SZ")
    parser.add_argument("--train", type=int, default=12, help="structures to learn")
    return parser


def _labelled(engine: SiestaEngine, atoms: Atoms) -> Matrices:
    """Converged matrices of a structure."""
    answer, matrices = engine.label(atoms, index=0), engine.matrices()
    if matrices is None:
        raise SystemExit(f"no label: {answer}")
    return matrices


def _aligned(matrix: BlockMatrix, true: Floats, overlap: Floats) -> BlockMatrix:
    """A Hamiltonian shifted to the zero of energy of the true one."""
    shift = float(np.vdot(overlap, matrix.values - true) / np.vdot(overlap, overlap))
    return matrix.with_values(matrix.values - shift * overlap)

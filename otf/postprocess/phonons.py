"""Phonons by finite displacements: of a force model, of its engine, and of learned Hamiltonians.

This uses phonopy: Togo, J. Phys. Soc. Jpn. 92, 012001 (2023).
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS

from otf.analysis.blocks import Estimate
from otf.analysis.curves import Curves
from otf.arrays import Floats
from otf.config import Config
from otf.engines.asking import ask
from otf.engines.extras import install_command
from otf.engines.labels import LabelFailure, Labels
from otf.engines.protocol import DensityGuess, Engine
from otf.errors import RunError
from otf.learning.calculator import ModelCalculator
from otf.orbitals.block_matrices import BlockMatrix
from otf.postprocess.electronic.learn import learn
from otf.postprocess.electronic.learned_matrices import (
    LearnedFromFile,
    MatrixSource,
    learn_from,
)
from otf.runs.assemble import make_engine, with_matrices
from otf.runs.directory import one_run, read_run

_STILL_EV_A = 1e-3
_MOST_STEPS = 500
_POINTS = 300
_BEYOND = 1.05  # of the highest frequency

Forces = Callable[[Atoms], Floats]


def phonons(
    path: Path,
    *,
    supercell: tuple[int, int, int],
    displacement_A: float,
    mesh: int,
    by_engine: bool,
    by_matrices: bool = False,
) -> Curves:
    """Phonon density of states of a crystal, at the minimum of the model's energy.

    Parameters
    ----------
    supercell
        Repetitions of the cell of the run; force constants must decay within it.
    mesh
        Points along each axis of the Brillouin zone of the primitive cell.
    by_engine
        Whether to use the engine as well, with one label per displacement.
    by_matrices
        Whether to use learned Hamiltonians as well, with one diagonalisation per displacement by
        the engine instead of a label.

    Raises
    ------
    RunError
        If the run is not of a crystal or has no model, the relaxation does not converge, the
        engine fails, or it gives no forces of Hamiltonians.
    """
    run, config, start = read_run(one_run(path))
    if not start.pbc.all():
        raise RunError(f"{path}: phonons need a crystal, periodic in all directions")
    if not run.model.exists():
        raise RunError(f"{path}: has no model yet; run it further first")
    calculator = ModelCalculator.read(run.model)
    rest = Atoms(start.numbers, start.positions, cell=start.cell, pbc=True, calculator=calculator)
    with BFGS(rest, logfile=None) as search:
        if not search.run(fmax=_STILL_EV_A, steps=_MOST_STEPS):
            raise RunError(f"{path}: its structure does not relax to a minimum of the model")
    rest.set_masses(start.get_masses())
    found = {"model": _displaced(rest, supercell, displacement_A)}
    _force_constants(found["model"], _by_model(calculator))
    ways = {"engine": by_engine, "matrices": by_matrices}
    for name in (name for name, wanted in ways.items() if wanted):
        found[name] = _displaced(rest, supercell, displacement_A)
        # An engine is opened for one order of species, and phonopy has its own order.
        atoms = _atoms(found[name].supercell)
        source = _matrices_for(path, supercell) if name == "matrices" else None
        with _opened(config if source is None else with_matrices(config), atoms) as engine:
            forces = _by_engine(engine) if source is None else ForcesOfMatrices(engine, source)
            _force_constants(found[name], forces)
    return _curves(found, mesh)


def _matrices_for(path: Path, supercell: tuple[int, int, int]) -> MatrixSource:
    """Hamiltonians learned from a run, with the prior for other structures in larger cells."""
    if max(supercell) == 1:
        return learn_from(path)
    return LearnedFromFile(path, learn([path]))


def _by_model(calculator: ModelCalculator) -> Forces:
    def forces(atoms: Atoms) -> Floats:
        atoms.calc = calculator
        return np.asarray(atoms.get_forces())

    return forces


@contextmanager
def _opened(config: Config, atoms: Atoms) -> Iterator[Engine]:
    engine = make_engine(config)
    with TemporaryDirectory(prefix="otf-phonons-") as scratch, closing(engine):
        engine.open(atoms, Path(scratch))
        yield engine


def _by_engine(engine: Engine) -> Forces:
    count = iter(range(10**9))

    def forces(atoms: Atoms) -> Floats:
        return _labelled(engine, atoms, index=next(count)).forces

    return forces


def _labelled(engine: Engine, atoms: Atoms, *, index: int) -> Labels:
    labels = ask(engine, atoms, index=index)
    if isinstance(labels, LabelFailure):
        raise RunError(f"no label: {labels.reason}. {labels.advice}")
    return labels


class ForcesOfMatrices:
    """Forces of learned Hamiltonians, by one diagonalisation each of an engine.

    The first structure is labelled. Hamiltonians of the others are corrected by the error there,
    which is nearly theirs if they are displaced by little.

    Parameters
    ----------
    engine
        An opened engine that returns matrices, and forces of a density.
    source
        Learned Hamiltonians.
    """

    def __init__(self, engine: Engine, source: MatrixSource) -> None:
        self._engine = engine
        self._source = source
        self._error: BlockMatrix | None = None  # of the first structure's Hamiltonian

    def __call__(self, atoms: Atoms) -> Floats:
        """Forces (N, 3), eV/Angstrom.

        Raises
        ------
        RunError
            If the engine fails, or gives no such forces.
        """
        learned = self._source.of(atoms)
        known = learned.hamiltonian
        if self._error is None:
            labels, matrices = _labelled(self._engine, atoms, index=0), self._engine.matrices()
            if matrices is None:
                raise RunError(f"engine '{self._engine.kind}' gave no matrices; see its log")
            true = matrices.hamiltonian.on(known.pairs)
            self._error = true.with_values(known.values - true.values)
            return labels.forces
        corrected = known.with_values(known.values - self._error.on(known.pairs).values)
        density = replace(learned, hamiltonian=corrected).density
        check = self._engine.check_forces(atoms, index=1, guess=DensityGuess(density))
        if check is None:
            raise RunError(f"engine '{self._engine.kind}' gives no forces of a density matrix")
        return check.forces


def _displaced(rest: Atoms, supercell: tuple[int, int, int], displacement_A: float) -> Any:
    """Phonopy object of a crystal with displacements, without forces."""
    try:
        phonopy = importlib.import_module("phonopy")
        structure = importlib.import_module("phonopy.structure.atoms")
        cells = importlib.import_module("phonopy.structure.cells")
    except ImportError as error:
        raise RunError(f"phonons need phonopy ({error}): {install_command('phonons')}") from error
    unit = structure.PhonopyAtoms(
        symbols=list(rest.symbols),
        cell=rest.cell.array,
        positions=rest.positions,
        masses=rest.get_masses(),
    )
    primitive = cells.guess_primitive_matrix(unit)
    phonon = phonopy.Phonopy(unit, np.diag(supercell), primitive_matrix=primitive)
    phonon.generate_displacements(distance=displacement_A)
    return phonon


def _force_constants(phonon: Any, forces: Forces) -> None:
    at_rest = forces(_atoms(phonon.supercell))  # minima of model and engine differ
    phonon.forces = [
        forces(_atoms(cell)) - at_rest for cell in phonon.supercells_with_displacements
    ]
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()


def _atoms(cell: Any) -> Atoms:
    return Atoms(cell.symbols, cell.positions, cell=cell.cell, pbc=True)


def _curves(found: dict[str, Any], mesh: int) -> Curves:
    y, numbers, frequencies = {}, {}, {}
    for name, phonon in found.items():
        phonon.run_mesh([mesh] * 3, is_gamma_center=True)
        frequencies[name] = np.asarray(phonon.mesh.frequencies)
    highest = _BEYOND * max(float(f.max()) for f in frequencies.values())
    lowest = min(0.0, *(float(f.min()) for f in frequencies.values()))
    for name, phonon in found.items():
        phonon.run_total_dos(
            freq_min=lowest, freq_max=highest, freq_pitch=(highest - lowest) / _POINTS
        )
        states = phonon.total_dos
        density = np.asarray(states.dos)
        y[f"states_per_THz_{name}"] = Estimate(density, np.full_like(density, np.nan))
        numbers[f"lowest_THz_{name}"] = _known(frequencies[name].min())
        numbers[f"highest_THz_{name}"] = _known(frequencies[name].max())
    for name in found:
        if name == "engine" or "engine" not in found:
            continue
        off = frequencies[name] - frequencies["engine"]
        mean = np.average((off**2).mean(axis=1), weights=found[name].mesh.weights)
        numbers[f"rms_difference_THz_{name}"] = _known(np.sqrt(mean))
    x = np.asarray(states.frequency_points)
    return Curves("phonons", "frequency_THz", x, y, numbers)


def _known(number: float) -> Estimate:
    return Estimate(np.array(number), np.array(np.nan))

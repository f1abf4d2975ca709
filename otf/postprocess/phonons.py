"""Phonons of a learned model by finite displacements, optionally also of its engine.

This uses phonopy: Togo, J. Phys. Soc. Jpn. 92, 012001 (2023).
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS

from otf.analysis.blocks import Estimate
from otf.analysis.curves import Curves
from otf.arrays import Floats
from otf.engines.asking import ask
from otf.engines.extras import install_command
from otf.engines.labels import LabelFailure
from otf.errors import RunError
from otf.learning.calculator import ModelCalculator
from otf.runs.assemble import make_engine
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

    Raises
    ------
    RunError
        If the run is not of a crystal or has no model, the relaxation does not converge, or the
        engine fails.
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
    if by_engine:
        found["engine"] = _displaced(rest, supercell, displacement_A)
        engine = make_engine(config)
        with TemporaryDirectory(prefix="otf-phonons-") as scratch:
            try:
                # An engine is opened for one order of species, and phonopy has its own order.
                engine.open(_atoms(found["engine"].supercell), Path(scratch))
                _force_constants(found["engine"], _by_engine(engine))
            finally:
                engine.close()
    return _curves(found, mesh)


def _by_model(calculator: ModelCalculator) -> Forces:
    def forces(atoms: Atoms) -> Floats:
        atoms.calc = calculator
        return np.asarray(atoms.get_forces())

    return forces


def _by_engine(engine: Any) -> Forces:
    count = iter(range(10**9))

    def forces(atoms: Atoms) -> Floats:
        labels = ask(engine, atoms, index=next(count))
        if isinstance(labels, LabelFailure):
            raise RunError(f"no label: {labels.reason}. {labels.advice}")
        return np.asarray(labels.forces)

    return forces


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
    if len(found) > 1:
        off = frequencies["model"] - frequencies["engine"]
        weights = found["model"].mesh.weights
        mean = np.average((off**2).mean(axis=1), weights=weights)
        numbers["rms_difference_THz"] = _known(np.sqrt(mean))
    x = np.asarray(states.frequency_points)
    return Curves("phonons", "frequency_THz", x, y, numbers)


def _known(number: float) -> Estimate:
    return Estimate(np.array(number), np.array(np.nan))

"""Model files and the ASE calculator: identical results, and refusals by name."""

import copy
import multiprocessing
import pickle

import h5py
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculatorSetupError
from ase.calculators.emt import EMT

import otf
from otf.config.schema import Model
from otf.engines.labels import Labels
from otf.errors import FileError
from otf.learning.model_file import write_model
from otf.model.descriptor import displaced
from otf.runs.assemble import make_trainer


def forces_of(model, atoms):
    return model.predict(atoms).forces.tobytes()


@pytest.fixture(scope="module")
def trainer():
    start = bulk("Cu", cubic=True)
    trainer = make_trainer(Model(radial_three=2, l_max=2), displaced(start, seed=0))
    rng = np.random.default_rng(0)
    for i in range(15):
        atoms = start.copy()
        strain = np.eye(3) + rng.normal(scale=0.01, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        trainer.learn(
            atoms,
            Labels(atoms.get_potential_energy(), atoms.get_forces()),
            time_fs=30.0 * i,
            audited=True,
        )
    return trainer


@pytest.fixture
def path(trainer, tmp_path):
    write_model(tmp_path / "model.h5", trainer.force_model)
    return tmp_path / "model.h5"


def probe(seed=5):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.04, seed=seed)
    return atoms


def test_file_gives_back_the_same_bits(trainer, path):
    model, atoms = otf.load_model(path).model, probe()
    one, other = trainer.force_model.predict(atoms), model.predict(atoms)
    assert one.energy == other.energy
    assert one.forces.tobytes() == other.forces.tobytes()
    assert one.stress.tobytes() == other.stress.tobytes()
    error = trainer.force_model.predicted_error(atoms)
    assert error.tobytes() == model.predicted_error(atoms).tobytes()
    assert np.isfinite(error).all()


def test_calculator_speaks_ase(path):
    atoms = probe()
    atoms.calc = otf.load_model(path)
    h = 1e-4
    moved = atoms.copy()
    moved.calc = otf.load_model(path)
    energies = []
    for sign in (1, -1):
        moved.positions = atoms.positions + sign * h * np.eye(3)[0] * (np.arange(4) == 2)[:, None]
        energies.append(moved.get_potential_energy())
    slope = (energies[0] - energies[1]) / (2 * h)
    assert slope == pytest.approx(-atoms.get_forces()[2, 0], abs=1e-5)
    assert atoms.get_stress().shape == (6,)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy())
    assert atoms.calc.predicted_error(atoms).shape == (4, 3)
    assert atoms.calc.atomic_error(atoms).shape == (4,)


def test_copies_and_forks_after_threads_were_used(path):
    """Large structures use threads, which are neither copied nor forked."""
    calculator = otf.load_model(path)
    large = probe() * (4, 4, 4)
    forces = calculator.get_forces(large)
    for other in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        other.results = {}
        assert other.get_forces(large).tobytes() == forces.tobytes()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        answer = pool.apply_async(forces_of, (calculator.model, large)).get(timeout=60)
    assert answer == forces.tobytes()


def test_supercell_has_the_energy_of_its_parts(path):
    atoms = probe()
    big = atoms * (2, 1, 1)
    atoms.calc = big.calc = None
    calculator = otf.load_model(path)
    one = calculator.get_potential_energy(atoms)
    assert otf.load_model(path).get_potential_energy(big) == pytest.approx(2 * one)


def test_stress_of_a_molecule_is_not_invented(path):
    atoms = molecule("O2")
    atoms.numbers[:] = 29
    atoms.calc = otf.load_model(path)
    assert np.isfinite(atoms.get_potential_energy())
    assert "stress" not in atoms.calc.results


def test_unknown_species_is_named(path):
    atoms = bulk("Ag", cubic=True)
    atoms.calc = otf.load_model(path)
    with pytest.raises(CalculatorSetupError, match="atomic number 47"):
        atoms.get_potential_energy()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.__setitem__("format", 7), "has format 7"),
        (lambda f: f.attrs.__setitem__("kind", "checkpoint"), "is a checkpoint file"),
        (lambda f: f.__delitem__("arrays/theta"), "does not match its checksum"),
        (lambda f: f.__delitem__("scalars"), "damaged or not a model"),
    ],
)
def test_what_it_does_not_know_is_refused(path, change, message):
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(FileError, match=message):
        otf.load_model(path)


def test_samples_estimate_the_leverage(trainer):
    atoms = probe()
    regression, choice = trainer._labels.current, trainer.choice
    solution = regression.equations.solve(regression.leading[choice.order], choice.strength)
    rows = trainer.model.design(atoms)[1 : 1 + 3 * len(atoms)] / trainer.settings.force_noise
    exact = solution.leverage(rows)
    estimated = trainer.force_model.leverage(atoms).ravel()
    np.testing.assert_allclose(estimated, exact, rtol=0.8)  # 64 samples: a standard error of 18 %
    assert estimated.sum() == pytest.approx(exact.sum(), rel=0.3)


def test_a_glance_is_enough_far_below_the_level_and_never_above(trainer):
    atoms = probe()
    worst = trainer.worst_error(atoms)
    assert trainer.worst_error(atoms, enough=0.01 * worst) == worst
    glances = [trainer.worst_error(atoms, enough=100.0 * worst, turn=t) for t in range(32)]
    assert len(set(glances)) == 32  # other samples at each look
    assert np.mean(glances) == pytest.approx(worst, rel=0.6)


def test_file_of_a_large_model_is_small(trainer, tmp_path):
    write_model(tmp_path / "model.h5", trainer.force_model)
    columns = trainer.model.n_columns
    assert (tmp_path / "model.h5").stat().st_size < 8 * 80 * columns + 200_000

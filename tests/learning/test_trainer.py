"""The trainer: accuracy, model selection, exact restoration, predicted errors."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential

from otf.engines.labels import Labels
from otf.errors import RunError
from otf.learning import regularisation
from otf.learning.fit import learn_all
from otf.learning.regression import Example, Regression, Taught, TrainerSettings
from otf.learning.trainer import Trainer
from otf.learning.uncertainty import EPSILON, ErrorScale
from otf.model.blueprint import Blueprint, Choices
from otf.model.descriptor import DescriptorSettings, displaced
from otf.model.dual_equations import DualEquations
from otf.model.normal_equations import NormalEquations
from otf.model.workers import Workers

START = molecule("C2H6")


RANGES = {
    "cutoff_three": (4.0, 2.5),
    "decay": (0.0, 3.0),
    "components": (3,),
    "four_body": (False,),
    "sharing": ("species",),
}


def trainer(**settings) -> Trainer:
    choices = Choices(("species",), components=(6,), four_body=(False,))
    blueprint = Blueprint(
        DescriptorSettings(radial_three=2, l_max=2), displaced(START, seed=0), choices
    )
    return Trainer(blueprint, TrainerSettings(**settings))


def labelled(count: int, *, width: float = 0.04, seed: int = 0):
    rng = np.random.default_rng(seed)
    calculator = MorsePotential(epsilon=2.0, r0=1.3, rho0=3.0)
    out = []
    for i in range(count):
        atoms = START.copy()
        atoms.positions += rng.normal(scale=width, size=atoms.positions.shape)
        atoms.calc = calculator
        labels = Labels(atoms.get_potential_energy(), atoms.get_forces())
        atoms.calc = None
        out.append(Taught(atoms, labels, 30.0 * i))
    return out


def learn(model: Trainer, data) -> Trainer:
    for atoms, labels, time_fs, _ in data:
        model.learn(atoms, labels, time_fs=time_fs, audited=True)
    return model


def force_error(model: Trainer, data) -> float:
    return float(np.mean([np.abs(model.predict(a).forces - y.forces).mean() for a, y, *_ in data]))


def test_error_falls_as_labels_come_in():
    data, test = labelled(40), labelled(10, seed=1)
    size = np.mean([np.abs(y.forces).mean() for _, y, *_ in test])
    errors = [force_error(learn(trainer(), data[:n]), test) / size for n in (1, 10, 40)]
    assert errors[0] > 3 * errors[1] > 3 * errors[2]
    assert errors[2] < 0.02


def test_energies_come_with_their_zero():
    data, test = labelled(30), labelled(5, seed=1)
    model = learn(trainer(), data)
    for atoms, labels, *_ in test:
        assert abs(model.predict(atoms).energy - labels.energy) < 0.05


def test_rank_two_is_chosen_where_it_pays_and_only_there():
    data, test = labelled(40), labelled(10, seed=1)
    free = learn(trainer(), data)
    alone = {order: force_error(learn(trainer(orders=(order,)), data), test) for order in (1, 2)}
    best = min(alone, key=lambda r: alone[r])
    assert free.choice.order == best
    assert force_error(free, test) < 1.2 * alone[best]


def test_restored_trainer_is_the_same_to_the_last_bit():
    data = labelled(12)
    original = learn(trainer(forgetting=0.95), data[:9])
    copy = trainer(forgetting=0.95)
    copy.restore(original.capture(), data[:9])
    learn(original, data[9:])
    learn(copy, data[9:])
    probe = data[0][0]
    assert original.predict(probe).forces.tobytes() == copy.predict(probe).forces.tobytes()
    assert original.predicted_error(probe).tobytes() == copy.predicted_error(probe).tobytes()
    assert original.choice == copy.choice
    np.testing.assert_equal(original.choice.score, copy.choice.score)


def test_restore_accepts_the_rounding_of_another_machine():
    data = labelled(8)
    state = learn(trainer(), data).capture()
    noise = 1e-12 * np.random.default_rng(0).normal(size=state.theta.shape)
    trainer().restore(replace(state, theta=state.theta * (1 + noise)), data)


def test_restore_refuses_missing_labels_and_others():
    data = labelled(6)
    state = learn(trainer(), data).capture()
    with pytest.raises(RunError, match="6 labels, but 5"):
        trainer().restore(state, data[:5])
    with pytest.raises(RunError, match="do not give the model"):
        trainer().restore(state, labelled(6, seed=3))


def test_unknown_errors_are_infinite_until_measured():
    data = labelled(3)
    model = trainer()
    assert np.isinf(model.predicted_error(START)).all()
    learn(model, data[:1])
    assert np.isinf(model.predicted_error(START)).all()
    learn(model, data[1:])
    assert np.isfinite(model.predicted_error(START)).all()


def test_fitted_at_once_it_knows_its_errors_too():
    data, test = labelled(40), labelled(15, seed=5)
    model = trainer()
    learn_all(model, ((atoms, labels) for atoms, labels, *_ in data))
    errors, predicted = [], []
    for atoms, labels, *_ in test:
        errors.append(np.abs(model.predict(atoms).forces - labels.forces))
        predicted.append(model.predicted_error(atoms))
    covered = np.mean(np.array(errors) <= 2 * np.array(predicted))
    assert 0.85 < covered < 0.999


def test_one_symmetric_structure_teaches_its_energy_and_claims_no_more():
    start = bulk("Al", cubic=True) * (2, 2, 2)
    descriptor = DescriptorSettings(5.0, 4.0, 0.0, 8, 2, 2)
    model = Trainer(Blueprint(descriptor, [start, *displaced(start, seed=0)]), TrainerSettings())
    labels = Labels(-3.0 * len(start), np.zeros((len(start), 3)))
    learn_all(model, [(start, labels)])
    assert model.predict(start).energy == pytest.approx(-3.0 * len(start), abs=0.01)


def test_predicted_error_grows_away_from_what_was_learned():
    model = learn(trainer(), labelled(20))
    near = np.mean([model.predicted_error(a).mean() for a, *_ in labelled(5, seed=8)])
    wide = labelled(5, seed=8, width=0.2)
    far = np.mean([model.predicted_error(a).mean() for a, *_ in wide])
    assert far > 2 * near


def test_predicted_error_has_the_size_of_the_true_one():
    model = learn(trainer(), labelled(30))
    predicted, true = [], []
    for atoms, labels, *_ in labelled(20, seed=5):
        predicted.append(model.predicted_error(atoms))
        true.append(np.abs(model.predict(atoms).forces - labels.forces))
    assert np.mean(np.array(true) <= 2 * np.array(predicted)) > 0.9
    assert np.sqrt(np.mean(np.square(predicted)) / np.mean(np.square(true))) < 5.0


def noisy(data, width_eV_A: float):
    rng = np.random.default_rng(5)
    return [
        taught._replace(
            labels=replace(
                taught.labels,
                forces=taught.labels.forces + rng.normal(0.0, width_eV_A, (len(taught.atoms), 3)),
            )
        )
        for taught in data
    ]


@pytest.mark.parametrize("width_eV_A", [0.02, 0.1])
def test_floor_is_the_noise_of_the_labels(width_eV_A):
    model = trainer()
    learn(model, noisy(labelled(12), width_eV_A))
    mean = width_eV_A * np.sqrt(2.0 / np.pi)
    assert model.floor == pytest.approx(mean, rel=0.25)
    learn(model, noisy(labelled(20, seed=1), width_eV_A))
    assert model.floor == pytest.approx(mean, rel=0.2)


def test_floor_is_small_where_labels_are_exact_and_the_model_fits():
    assert learn(trainer(), labelled(40)).floor < 0.005


def test_searches_are_more_frequent_where_labels_of_the_same_model_do_not_help(caplog):
    caplog.set_level("INFO", "otf.learning")
    searches = []
    for width_eV_A in (0.0, 0.1):
        caplog.clear()
        learn(trainer(), noisy(labelled(60), width_eV_A))
        searches.append(sum("left-out error" in r.getMessage() for r in caplog.records))
    assert searches[1] > searches[0]


@pytest.mark.parametrize("seed", [1, 3])
def test_predicted_errors_keep_their_size_when_order_and_prior_change(seed):
    model, ratios = trainer(), []
    for atoms, labels, time_fs, _ in labelled(40, seed=seed):
        if model.n_labels > 4:
            error = np.abs(model.predict(atoms).forces - labels.forces).mean()
            ratios.append(model.predicted_error(atoms).mean() / error)
        model.learn(atoms, labels, time_fs=time_fs, audited=True)
    assert min(ratios) > 0.25
    assert max(ratios) < 50.0  # an error falls by as much within a few labels


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_both_forms_of_the_equations_give_the_same_forces(strength):
    model, data = trainer(), labelled(6)
    regression = Regression(model.model, model.settings)
    reference = data[0].labels.energy / len(START)
    rows = [
        regression.equation(Example(a, y, y, i, t), reference)
        for i, (a, y, t, _) in enumerate(data)
    ]
    solutions = []
    for form in (DualEquations, NormalEquations):
        equations = form(regression.equations.prior)
        for block, (x, y) in enumerate(rows[:5]):
            equations.add(x, y, block=block)
        solutions.append(equations.solve(len(equations.prior), strength).coefficients)
    forces = [rows[5][0][1:] @ theta for theta in solutions]
    np.testing.assert_allclose(forces[0], forces[1], rtol=0, atol=1e-6 * np.abs(forces[1]).max())


def test_error_scale_is_a_running_mean_by_species():
    scale = ErrorScale.unknown(2)
    species = np.array([0, 1, 1])
    leverage = np.array([1.0, 3.0, 3.0])[:, None] * np.ones(3) - EPSILON
    for _ in range(300):
        scale = scale.updated(species, np.full((3, 3), 0.2), leverage, audited=False)
    expected = 0.2 * np.sqrt([1.0, 1.0 / 3.0, 1.0 / 3.0])[:, None] * np.ones(3)
    here = np.full((3, 3), 1.0 - EPSILON)
    np.testing.assert_allclose(scale.predicted_error(species, here), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", ["normal", "heavy", "flat"])
def test_audits_calibrate_whatever_the_distribution(shape):
    rng = np.random.default_rng(4)
    draw = {
        "normal": lambda: rng.normal(size=(10, 3)),
        "heavy": lambda: rng.standard_t(2.0, size=(10, 3)),
        "flat": lambda: rng.uniform(-1.0, 1.0, size=(10, 3)),
    }[shape]
    scale, species = ErrorScale.unknown(1), np.zeros(10, dtype=int)
    leverage = rng.uniform(0.01, 0.1, size=(10, 3))
    inside = []
    for label in range(200):
        residual = 0.02 * draw() * np.sqrt(leverage)
        if label >= 50:
            inside.append(np.abs(residual) <= 2 * scale.predicted_error(species, leverage))
        scale = scale.updated(species, residual, leverage, audited=True)
    assert 0.93 < np.mean(inside) < 0.97


def test_triggered_labels_calibrate_nothing():
    scale, species = ErrorScale.unknown(1), np.zeros(4, dtype=int)
    leverage = np.full((4, 3), 0.1)
    for _ in range(10):
        scale = scale.updated(species, np.full((4, 3), 0.1), leverage, audited=False)
    assert scale.factor == 1.0


def test_search_leaves_the_edge_where_nothing_can_be_solved():
    equations = NormalEquations(np.full(4, 1e-8))
    rng = np.random.default_rng(0)
    for i in range(8):
        row = rng.normal(size=(3, 1)) * np.ones((1, 4)) * 1e3  # singular without the prior
        equations.add(row, row[:, 0], block=i)
    stuck = regularisation.Regularisation(1, {1: 0}, 7)
    found = regularisation.search(equations, {1: 4}, stuck)
    assert equations.solve(4, found.strength) is not None


def test_converged_choice_has_the_score_it_reports():
    rng = np.random.default_rng(1)
    for _ in range(10):
        equations = NormalEquations(np.ones(12))
        truth = rng.normal(size=12)
        for i in range(8):
            rows = rng.normal(size=(3, 12))
            equations.add(rows, rows @ truth + 0.3 * rng.normal(size=3), block=i)
        leading = {1: 6, 2: 12}
        found = regularisation.converge(
            equations, leading, regularisation.start((1, 2)), thorough=True
        )
        solution = equations.solve(leading[found.order], found.strength)
        residual, _ = solution.left_out(equations.blocks())
        assert found.score == pytest.approx(np.sqrt(np.mean(residual**2)))


def test_search_is_frequent_at_first_and_rare_later():
    start = regularisation.start((1,))
    assert all(regularisation.is_due(start, n) for n in range(1, 11))
    later = regularisation.Regularisation(1, {1: 3}, searched_at=100)
    assert not regularisation.is_due(later, 105)
    assert regularisation.is_due(later, 110)


def growing(*, threads: int | None = None, **choices) -> Trainer:
    descriptor = DescriptorSettings(
        radial_two=4, radial_three=2, l_max=1, radial_four=2, l_four=1, degree_four=4
    )
    return Trainer(
        Blueprint(
            descriptor, displaced(START, seed=0), Choices(**choices), workers=Workers(threads)
        ),
        TrainerSettings(force_noise=0.003),
    )


def test_model_grows_where_it_is_too_small_and_predicts_better_for_it():
    data, test = labelled(60, width=0.08), labelled(10, seed=1, width=0.08)
    small = {"sharing": ("species",), "components": (3,), "four_body": (False,)}
    large = {"sharing": ("species",), "components": (3, 8), "four_body": (False, True)}
    fixed, free = learn(growing(**small), data), learn(growing(**large), data)
    assert fixed.size.components == 3
    assert not fixed.size.four_body
    assert free.size != fixed.size
    assert force_error(free, test) < 0.8 * force_error(fixed, test)


def test_model_does_not_grow_where_there_is_nothing_to_gain():
    data = labelled(40, width=0.005)
    model = growing(sharing=("species",), components=(3, 8))
    coarse = Trainer(model._labels._blueprint, TrainerSettings(force_noise=1.0))
    assert learn(coarse, data).size == model.size


def test_resolution_is_searched_from_the_third_label_on_and_pays():
    data, test = labelled(12, width=0.08), labelled(10, seed=1, width=0.08)
    fixed, free = growing(**RANGES | {"cutoff_three": (), "decay": ()}), growing(**RANGES)
    start = free.size
    learn(free, data[:2])
    assert free.size == start
    learn(free, data[2:3])
    assert free.size != start
    assert force_error(learn(free, data[3:]), test) < 0.9 * force_error(learn(fixed, data), test)


def test_every_candidate_of_a_search_is_logged(caplog):
    caplog.set_level("INFO", "otf.learning")
    learn(growing(**RANGES), labelled(3, width=0.08))
    assert sum("left-out error" in r.getMessage() for r in caplog.records) == 3


def test_candidates_judged_side_by_side_give_the_same_bits_and_lines(caplog):
    caplog.set_level("INFO", "otf.learning")
    data, thetas, lines = labelled(8, width=0.08), [], []
    for threads in (1, 4):
        caplog.clear()
        trainer = learn(growing(threads=threads, **RANGES | {"components": (3, 5, 8)}), data)
        thetas.append(trainer.force_model.theta.tobytes())
        lines.append([r.getMessage() for r in caplog.records])
    assert thetas[0] == thetas[1]
    assert lines[0] == lines[1]


def test_restored_during_a_search_it_is_the_same_to_the_last_bit():
    data = labelled(8, width=0.08)
    original = learn(growing(**RANGES), data[:4])
    copy = growing(**RANGES)
    copy.restore(original.capture(), data[:4])
    learn(original, data[4:])
    learn(copy, data[4:])
    assert original.size == copy.size
    probe = data[0][0]
    assert original.predict(probe).forces.tobytes() == copy.predict(probe).forces.tobytes()


def test_grown_trainer_is_restored_to_the_last_bit():
    data = labelled(60, width=0.08)
    choices = {"components": (3, 8), "four_body": (False, True)}
    original = learn(growing(**choices), data[:50])
    assert original.size.components == 8 or original.size.four_body
    copy = growing(**choices)
    copy.restore(original.capture(), data[:50])
    learn(original, data[50:])
    learn(copy, data[50:])
    probe = data[0][0]
    assert original.predict(probe).forces.tobytes() == copy.predict(probe).forces.tobytes()
    assert original.predicted_error(probe).tobytes() == copy.predicted_error(probe).tobytes()
    one, other = original.error_forecast(), copy.error_forecast()
    assert one.mean(0.5).tobytes() == other.mean(0.5).tobytes()


def test_a_model_larger_than_its_rows_shrinks_when_they_become_many():
    data = labelled(60, width=0.08)
    choices = {"sharing": ("species",), "components": (3, 8, 15), "most_columns": 250}
    model, sizes = growing(**choices), []
    for i in range(60):
        learn(model, data[i : i + 1])
        sizes.append(model.model.n_columns)
        if i == 10:
            copy = growing(**choices)
            copy.restore(model.capture(), data[:11])
            assert copy.model.n_columns == sizes[-1]
    assert max(sizes) > 250
    assert sizes[-1] <= 250


def test_atoms_of_their_own_are_learned_and_fall_back():
    data, test = labelled(30), labelled(8, seed=1)
    model = learn(growing(sharing=("atom",), components=(3,), four_body=(False,)), data)
    size = np.mean([np.abs(y.forces).mean() for _, y, *_ in test])
    assert force_error(model, test) < 0.1 * size
    other = molecule("CH4")  # same species, other atoms: predicted by the shared coefficients
    assert np.isfinite(model.predict(other).forces).all()


def test_self_coupling_learns_forces_without_energies():
    data, test = labelled(40), labelled(8, seed=1)
    choices = Choices(("atom",), components=(3,), four_body=(False,))
    descriptor = DescriptorSettings(radial_three=2, l_max=2)
    blueprint = Blueprint(descriptor, displaced(START, seed=0), choices, coupling="self")
    model = learn(Trainer(blueprint, TrainerSettings()), data)
    size = np.mean([np.abs(y.forces).mean() for _, y, *_ in test])
    assert force_error(model, test) < 0.3 * size
    assert all(np.isnan(model.predict(a).energy) for a, *_ in test)


def test_residual_forecast_is_what_the_model_in_force_leaves():
    data = labelled(12)
    model = learn(trainer(orders=(1,)), data)
    atoms, labels, *_ = data[9]
    left = labels.forces - model.predict(atoms).forces
    np.testing.assert_allclose(model.residual_forecast(10).mean(0.0), left, atol=1e-12)
    assert model.residual_forecast(1) is None


def crystal_data(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        atoms = bulk("Al", cubic=True)
        strain = np.eye(3) + rng.normal(scale=0.02, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.rattle(0.05, seed=int(rng.integers(1 << 30)))
        atoms.calc = EMT()
        labels = Labels(
            atoms.get_potential_energy(),
            atoms.get_forces(),
            stress=atoms.get_stress(voigt=False),
            atomic_energies=atoms.get_potential_energies(),
        )
        atoms.calc = None
        out.append(Taught(atoms, labels, 30.0 * i))
    return out


def aluminium(**settings) -> Trainer:
    start = bulk("Al", cubic=True)
    choices = Choices(("species",), components=(4,), four_body=(False,))
    descriptor = DescriptorSettings(5.0, 4.0, 0.0, 6, 2, 2)
    blueprint = Blueprint(descriptor, displaced(start, seed=0), choices)
    return Trainer(blueprint, TrainerSettings(**settings))


def test_stress_is_learned_when_asked():
    data, test = crystal_data(12), crystal_data(6, seed=1)

    def error(**settings):
        model = learn(aluminium(**settings), data)
        return np.mean([np.abs(model.predict(a).stress - y.stress).mean() for a, y, *_ in test])

    size = np.mean([np.abs(y.stress).mean() for _, y, *_ in test])
    assert error(stress_noise=1e-3) < 0.7 * error()
    assert error(stress_noise=1e-3) < 0.05 * size


def test_energies_of_atoms_are_learned_when_asked():
    data, test = crystal_data(12), crystal_data(6, seed=1)

    def error(**settings):
        model = learn(aluminium(**settings), data)
        return np.mean(
            [
                np.abs(model.predict(a).atomic_energies - y.atomic_energies).mean()
                for a, y, *_ in test
            ]
        )

    assert error(atomic_energy_noise=0.0005) < 0.7 * error()

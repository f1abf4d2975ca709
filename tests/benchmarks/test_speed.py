"""Benchmarks of the hot path; only ratios within one run are asserted."""

import itertools
import timeit
import warnings

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.neighborlist import primitive_neighbor_list

from otf.analysis.rdf import RdfSum
from otf.electrons.density.local_functions import LocalFunctions
from otf.electrons.environment import Reach
from otf.electrons.matrix_features import Description
from otf.electrons.matrix_model import MatrixModel
from otf.engines.labels import Labels
from otf.kernels.neighbours import neighbour_list, reverse_slots
from otf.learning import regularisation
from otf.learning.regression import TrainerSettings
from otf.learning.trainer import Trainer
from otf.model.blueprint import Blueprint, Choices, Size
from otf.model.bond_graph import BondGraph
from otf.model.descriptor import DescriptorSettings, displaced
from otf.model.dual_equations import DualEquations
from otf.model.normal_equations import NormalEquations
from otf.model.one_thread import in_one_thread
from otf.model.workers import Workers
from otf.orbitals.block_matrices import BlockMatrix

freud = pytest.importorskip("freud")

pytestmark = pytest.mark.full  # takes minutes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # from its dependencies
    from MDAnalysis.lib.distances import capped_distance

ORGANIC = DescriptorSettings(radial_four=2, l_four=2, degree_four=6)
SILICON = DescriptorSettings(
    cutoff_two=5.0,
    cutoff_three=4.0,
    radial_two=6,
    radial_four=3,
    l_four=3,
    degree_four=8,
)


def trained(atoms, settings, *, four_body=False) -> Trainer:
    choices = Choices(("species",), components=(10,), four_body=(four_body,))
    trainer = Trainer(Blueprint(settings, displaced(atoms, seed=0), choices), TrainerSettings())
    rng = np.random.default_rng(0)
    for i in range(3):
        moved = atoms.copy()
        moved.positions += rng.normal(scale=0.02, size=moved.positions.shape)
        labels = Labels(float(i), rng.normal(size=moved.positions.shape))
        trainer.learn(moved, labels, time_fs=30.0 * i, audited=True)
    return trainer


SYSTEMS = {
    "CH4": (molecule("CH4"), ORGANIC),
    "C6H6": (molecule("C6H6"), ORGANIC),
    "Si64": (bulk("Si", cubic=True) * (2, 2, 2), SILICON),
    "Si4096": (bulk("Si", cubic=True) * (8, 8, 8), SILICON),
}


def model_of(name, *, four_body=False, threads=1):
    """A model with random coefficients, its tensors and the system."""
    atoms, settings = SYSTEMS[name]
    small = bulk("Si", cubic=True) if name.startswith("Si") else atoms
    blueprint = Blueprint(settings, displaced(small, seed=0), workers=Workers(threads))
    model = blueprint.build(Size(four_body=four_body))
    theta = np.random.default_rng(0).normal(scale=0.01, size=model.n_columns)
    return model, model.tensors(theta, order=2), atoms


@pytest.mark.parametrize("threads", [1, 2], ids=["1-thread", "2-threads"])
@pytest.mark.parametrize("four_body", [False, True], ids=["three-body", "four-body"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_energy_and_forces(benchmark, name, four_body, threads):
    model, tensors, atoms = model_of(name, four_body=four_body, threads=threads)
    benchmark(model.evaluate, atoms, tensors)
    if benchmark.stats:  # None with --benchmark-disable
        benchmark.extra_info["us_per_atom"] = 1e6 * benchmark.stats["median"] / len(atoms)


@pytest.mark.parametrize("four_body", [False, True], ids=["three-body", "four-body"])
@pytest.mark.parametrize("name", ["C6H6", "Si64"])
def test_design_rows(benchmark, name, four_body):
    model, _, atoms = model_of(name, four_body=four_body)
    benchmark(model.design, atoms)


def test_features(benchmark):
    model, _, atoms = model_of("Si64", four_body=True)
    benchmark(model.descriptor.features, atoms)


def test_time_grows_linearly_with_the_atoms():
    """Memory also grows linearly: every buffer has one entry per atom or pair."""
    model, tensors, atoms = model_of("Si64")
    times = []
    for repeat in (2, 6):
        large = atoms * (repeat, repeat, repeat)
        model.evaluate(large, tensors)
        once = min(timeit.repeat(lambda a=large: model.evaluate(a, tensors), number=1, repeat=3))
        times.append(once / len(large))
    assert times[1] < 2.0 * times[0]


@pytest.mark.parametrize("name", ["C6H6"])
def test_predicted_error(benchmark, name):
    atoms, settings = SYSTEMS[name]
    benchmark(trained(atoms, settings).predicted_error, atoms)


@pytest.mark.parametrize("name", ["C6H6", "Si64"])
def test_look_of_the_guard_costs_a_few_steps_of_the_model(name):
    """Far below the level, the only case that is frequent."""
    atoms, settings = SYSTEMS[name]
    trainer = trained(atoms, settings)
    enough = 100.0 * trainer.worst_error(atoms)

    def look():
        for turn in range(10):
            trainer.worst_error(atoms, enough=enough, turn=turn)

    def step():
        for _ in range(10):
            trainer.predict(atoms)

    look(), step()
    times = [min(timeit.repeat(f, number=1, repeat=5)) for f in (look, step)]
    assert times[0] < 4.0 * times[1]


@pytest.mark.parametrize("four_body", [False, True], ids=["780-columns", "2004-columns"])
def test_retraining_after_a_label(benchmark, four_body):
    """Rows, prior and solve; a hyperparameter search runs at about every tenth label."""
    start = molecule("CH3CH2OH")
    trainer = trained(start, ORGANIC, four_body=four_body)
    rng = np.random.default_rng(1)

    def next_label():
        moved = start.copy()
        moved.positions += rng.normal(scale=0.03, size=moved.positions.shape)
        labels = Labels(float(rng.normal()), rng.normal(size=moved.positions.shape))
        return (moved, labels), {"time_fs": 30.0 * (trainer.n_labels + 1), "audited": True}

    for _ in range(50):
        (atoms, labels), when = next_label()
        trainer.add(atoms, labels, time_fs=when["time_fs"])
    benchmark.pedantic(trainer.learn, setup=next_label, rounds=20, warmup_rounds=1)
    assert trainer.n_labels == 3 + 50 + (1 if benchmark.disabled else 21)


def test_a_search_costs_less_than_the_solve():
    """The slope reuses the existing factors; only a few left-out blocks are added."""
    equations = NormalEquations(np.ones(1200))
    rng = np.random.default_rng(0)
    for i in range(30):
        equations.add(rng.normal(size=(27, 1200)), rng.normal(size=27), block=i)
    choice = regularisation.Regularisation(2, {1: 16, 2: 16}, 20)
    leading = {1: 600, 2: 1200}

    @in_one_thread
    def solve():
        equations.forget_solutions()
        for columns in leading.values():
            equations.solve(columns, 1.0)

    @in_one_thread
    def search():
        regularisation.search(equations, leading, choice)

    alone, searched = (min(timeit.repeat(f, number=1, repeat=7)) for f in (solve, search))
    assert searched < 1.5 * alone  # with a margin for the noise of a shared machine


def test_few_rows_are_solved_faster_in_the_dual_form():
    rng = np.random.default_rng(0)
    rows, targets = rng.normal(size=(300, 2000)), rng.normal(size=300)
    seconds = []
    for form in (DualEquations, NormalEquations):
        equations = form(np.ones(2000))
        equations.add(rows, targets, block=0)
        numbers = itertools.count(1)  # a new strength for each repetition, so nothing is cached
        solve = in_one_thread(lambda e=equations, n=numbers: e.solve(2000, float(next(n))))
        seconds.append(min(timeit.repeat(solve, number=1, repeat=5)))
    assert seconds[0] < 0.5 * seconds[1]


def test_bond_graph(benchmark):
    """The check at every step; classes are recomputed only when a bond has changed."""
    atoms = molecule("C6H6")
    graph = BondGraph()
    benchmark(graph.classes, atoms)


def test_reverse_slots(benchmark):
    atoms = bulk("Si", cubic=True) * (4, 4, 4)
    cell, inverse = atoms.cell.array, np.linalg.inv(atoms.cell.array)
    ones = np.ones(3, dtype=np.int64)
    found = neighbour_list(atoms.positions, cell, inverse, ones, 5.0)
    benchmark(reverse_slots, *found)


def test_neighbour_list(benchmark):
    atoms = bulk("Si", cubic=True) * (4, 4, 4)
    cell, inverse = atoms.cell.array, np.linalg.inv(atoms.cell.array)
    ones = np.ones(3, dtype=np.int64)
    benchmark(neighbour_list, atoms.positions, cell, inverse, ones, 5.0)


def silicon_512():
    atoms = bulk("Si", cubic=True) * (4, 4, 4)
    atoms.rattle(0.1, seed=0)
    return atoms


def test_rdf_of_a_frame(benchmark):
    atoms = silicon_512()
    total = RdfSum(atoms, 10.0, 200)
    benchmark(total.add, atoms.positions, atoms.cell.array)


def test_rdf_of_a_frame_by_freud(benchmark):
    atoms = silicon_512()
    rdf = freud.density.RDF(bins=200, r_max=10.0)
    system = (freud.box.Box.from_matrix(atoms.cell.array.T), atoms.positions)
    benchmark(rdf.compute, system, reset=False)


def test_rdf_of_a_frame_by_mdanalysis(benchmark):
    positions = silicon_512().positions.astype(np.float32)
    box = silicon_512().cell.cellpar().astype(np.float32)

    def frame():
        distances = capped_distance(positions, positions, 10.0, box=box)[1]
        return np.histogram(distances, 200, (0.0, 10.0))[0]

    benchmark(frame)


def test_rdf_is_faster_than_freud():
    atoms = silicon_512()
    total = RdfSum(atoms, 10.0, 200)
    rdf = freud.density.RDF(bins=200, r_max=10.0)
    system = (freud.box.Box.from_matrix(atoms.cell.array.T), atoms.positions)
    freud.parallel.set_num_threads(1)

    def theirs():
        rdf.compute(system, reset=False)

    def ours():
        total.add(atoms.positions, atoms.cell.array)

    ours()
    assert min(timeit.repeat(ours, number=5)) < min(timeit.repeat(theirs, number=5))


def test_neighbour_list_is_far_faster_than_ases():
    atoms = bulk("Si", cubic=True) * (4, 4, 4)
    cell, inverse = atoms.cell.array, np.linalg.inv(atoms.cell.array)
    ones = np.ones(3, dtype=np.int64)

    def ours():
        neighbour_list(atoms.positions, cell, inverse, ones, 5.0)

    def ase():
        primitive_neighbor_list("ijS", atoms.pbc, cell, atoms.positions, 5.0)

    ours()
    slow, fast = (min(timeit.repeat(f, number=1, repeat=5)) for f in (ase, ours))
    assert slow > 5 * fast


@pytest.fixture(scope="module")
def matrices():
    """A model of silicon's matrices with s and p orbitals, trained on random values."""
    description = Description(around=Reach(4, 0.4, 5.0), bond=Reach(8, 0.4, 6.2))
    model = MatrixModel({14: (0, 1)}, ("hamiltonian", "overlap"), description)
    atoms = bulk("Si", cubic=True)
    pairs = model.pairs(atoms)
    values = np.random.default_rng(1).normal(size=16 * len(pairs.first))
    one = BlockMatrix(np.asarray(atoms.numbers), model.shells, pairs, values)
    model.learn(atoms, dict.fromkeys(model.names, one))
    model.predict(atoms)
    return model


def test_speed_of_learned_matrices(benchmark, matrices):
    atoms = bulk("Si", cubic=True) * (3, 3, 3)
    benchmark(matrices.predict, atoms)


@in_one_thread
def test_time_of_learned_matrices_grows_with_the_atoms(matrices):
    small, large = (bulk("Si", cubic=True) * (n, n, n) for n in (2, 4))
    each = [
        min(timeit.repeat(lambda a=a: matrices.predict(a), number=1, repeat=5)) / len(a)
        for a in (small, large)
    ]
    assert each[1] < 2.0 * each[0]


def test_density_point_by_point(benchmark):
    """20 000 points with 24 atoms within reach, 108 functions each."""
    functions = LocalFunctions((20, 10, 8, 6, 4), 3.5)
    rng = np.random.default_rng(1)
    points, centres = rng.uniform(-1, 1, (20000, 3)), rng.uniform(-1, 1, (24, 3))
    which, out = rng.normal(size=(24, functions.size)), np.zeros(20000)
    benchmark(functions.add_to, out, points, centres, which)


def test_time_of_a_density_grows_with_points_and_atoms():
    functions = LocalFunctions((20, 10, 8, 6, 4), 3.5)
    rng = np.random.default_rng(1)

    def seconds(n_points: int, n_atoms: int) -> float:
        points, centres = rng.uniform(-1, 1, (n_points, 3)), rng.uniform(-1, 1, (n_atoms, 3))
        which, out = rng.normal(size=(n_atoms, functions.size)), np.zeros(n_points)
        work = timeit.repeat(
            lambda: functions.add_to(out, points, centres, which), number=1, repeat=5
        )
        return min(work)

    seconds(10, 1)
    few = seconds(4000, 5)
    assert seconds(16000, 5) < 2.0 * 4 * few
    assert seconds(4000, 20) < 2.0 * 4 * few

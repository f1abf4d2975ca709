"""Energy, forces and strain derivatives: reference code, finite differences, symmetries."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given
from hypothesis import strategies as st
from numba.core.runtime import _nrt_python, rtsys
from scipy.spatial.transform import Rotation

from otf.model.blueprint import Blueprint, Choices, Resolution, Size
from otf.model.descriptor import Descriptor, DescriptorSettings, displaced
from otf.model.mixing import mixing
from otf.model.neighbours import NeighbourCache
from otf.model.workers import Workers
from tests.oracles import slow_descriptor

SMALL = DescriptorSettings(
    cutoff_two=4.0,
    cutoff_three=3.2,
    r_min=0.4,
    radial_two=8,
    radial_three=2,
    l_max=2,
    radial_four=2,
    l_four=2,
    degree_four=4,
)


def ethanol():
    return molecule("CH3CH2OH")


def quartz_like():
    atoms = bulk("NaCl", "rocksalt", a=4.1, cubic=True)
    atoms.set_cell(atoms.cell.array @ [[1, 0.1, 0], [0, 1, 0.05], [0, 0, 0.95]], scale_atoms=True)
    atoms.rattle(0.15, seed=3)
    return atoms


def stretched():
    """Ethanol with three bonds in the range where its classes change smoothly."""
    atoms = ethanol()
    for hydrogen, carrier, length in ((3, 2, 1.22), (4, 1, 1.50), (6, 0, 1.36)):
        atoms.set_distance(carrier, hydrogen, length, fix=0)
    return atoms


STRUCTURES = {"molecule": ethanol, "stretched": stretched, "crystal": quartz_like}
SIZES = {
    "three-body": Size("species", 5),
    "four-body": Size("species", 5, four_body=True),
    "exponential": Size("species", 5, four_body=True, resolution=Resolution(decay=3.0)),
    "mixed": Size("species", 5, four_body=True, resolution=Resolution(channels=2)),
    "environment": Size("environment", 4),
    "atom": Size("atom", 3, four_body=True),
}


class Model:
    """A model with random coefficients for a structure."""

    def __init__(
        self,
        atoms: Atoms,
        size=SIZES["four-body"],
        *,
        order: int = 2,
        coupling="joint",
        threads=1,
        settings=SMALL,
        seen: Sequence[Atoms] = (),
    ) -> None:
        self.atoms = atoms
        choices = Choices(sharing=(size.sharing,), most_columns=10**6)
        blueprint = Blueprint(
            settings,
            displaced(atoms, seed=0),
            choices,
            coupling=coupling,
            workers=Workers(threads),
        )
        for structure in seen:
            blueprint.see(structure)
        self.energy_model = blueprint.build(size)
        self.theta = np.random.default_rng(5).normal(size=self.energy_model.n_columns) * 0.1
        if order == 1:
            self.theta[self.energy_model.leading(1) :] = 0.0
        self.tensors = self.energy_model.tensors(self.theta, order=order)

    def __call__(self, atoms: Atoms):
        return self.energy_model.evaluate(atoms, self.tensors)


@pytest.fixture(scope="module", params=[(s, z) for s in STRUCTURES for z in SIZES], ids="-".join)
def model(request):
    structure, size = request.param
    return Model(STRUCTURES[structure](), SIZES[size])


def next_to_each_other(one: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
    """Copies of two float arrays, one right behind the other in memory."""
    memory = np.concatenate([one.ravel(), other.ravel()])
    return [memory[: one.size].reshape(one.shape), memory[one.size :].reshape(other.shape)]


def float_arrays(buffers) -> list[str]:
    return [n for n in buffers._fields if getattr(getattr(buffers, n), "dtype", None) == np.float64]


@pytest.mark.parametrize("radial_two", [2, 8])
def test_bits_do_not_depend_on_where_arrays_are_in_memory(radial_two):
    """A loop that stores and sums has two orders of summation; addresses choose between them.

    Arrays shorter than the vectors of the loop can come as close as that.
    """
    settings = DescriptorSettings(5.0, 4.0, 0.0, radial_two, 2, 2)
    model = Model(bulk("Al", cubic=True), SIZES["three-body"], settings=settings)
    atoms, descriptor = model.atoms, model.energy_model.descriptor
    expected, rows = model(atoms), model.energy_model.design_of(atoms, 0, len(atoms))
    pages, work = descriptor._pages[0], descriptor.workspace(descriptor.neighbours(atoms))
    changed = set()
    stored = float_arrays(pages)
    for first, second in itertools.permutations([*stored, *model.tensors._fields], 2):
        if first not in stored:
            continue
        arrays = pages._asdict() | model.tensors._asdict()
        arrays[first], arrays[second] = next_to_each_other(arrays[first], arrays[second])
        descriptor._pages[0] = pages._replace(**{n: arrays[n] for n in stored})
        tensors = model.tensors._replace(**{n: arrays[n] for n in model.tensors._fields})
        found = model.energy_model.evaluate(atoms, tensors)
        if found.atomic_energies.tobytes() != expected.atomic_energies.tobytes():
            changed.add((first, second, "energies"))
        if found.forces.tobytes() != expected.forces.tobytes():
            changed.add((first, second, "forces"))
    for first, second in itertools.permutations(float_arrays(work), 2):
        arrays = work._asdict()
        arrays[first], arrays[second] = next_to_each_other(arrays[first], arrays[second])
        descriptor._workspace = work._replace(**arrays)
        found = model.energy_model.design_of(atoms, 0, len(atoms))
        if found.tobytes() != rows.tobytes():
            changed.add((first, second, "rows"))
    assert changed == set()


def test_rows_of_the_latest_structure_are_kept():
    model = Model(bulk("Al", cubic=True), SIZES["three-body"])
    atoms, energy_model = model.atoms.copy(), model.energy_model
    rows = energy_model.design(atoms)
    assert energy_model.design(atoms) is rows
    for change in (lambda: atoms.rattle(0.01), lambda: atoms.set_cell(1.01 * atoms.cell)):
        change()
        changed = energy_model.design(atoms)
        assert (changed != rows).any()
        assert (changed == energy_model.design_of(atoms, 0, len(atoms))).all()
        rows = changed


def test_features_equal_the_slow_oracle(model):
    atoms, descriptor = model.atoms, model.energy_model.descriptor
    s = descriptor.settings
    slow = slow_descriptor.features(
        atoms.positions,
        atoms.cell.complete().array,
        atoms.pbc,
        descriptor.channels(atoms),
        mixing=mixing(descriptor.species, s.channels),
        r_min=s.r_min,
        rc2=s.cutoff_two,
        rc3=s.cutoff_three,
        n2=s.radial_two,
        n3=s.radial_three,
        l_max=s.l_max,
        decay=s.decay,
        four=(s.radial_four, s.l_four, descriptor.settings.degree_four),
    )
    np.testing.assert_allclose(descriptor.features(atoms), slow, rtol=1e-9, atol=1e-10)


def test_forces_are_minus_the_gradient(model):
    forces = model(model.atoms).forces
    h = 1e-4
    for i in range(len(model.atoms)):
        for c in range(3):
            energies = []
            for steps in (-2, -1, 1, 2):  # fourth order: the error is far below 1e-6
                moved = model.atoms.copy()
                moved.positions[i, c] += steps * h
                energies.append(model(moved).energy)
            slope = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * h)
            assert abs(slope + forces[i, c]) < 1e-6 * np.abs(forces).max()


def test_stress_is_the_strain_derivative():
    model = Model(quartz_like())
    stress = model(model.atoms).stress
    h = 1e-5
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * h
                strained = model.atoms.copy()
                strained.set_cell(strained.cell.array @ strain, scale_atoms=True)
                energies.append(model(strained).energy)
            slope = (energies[0] - energies[1]) / (2 * h) / model.atoms.get_volume()
            assert abs(slope - stress[a, b]) < 1e-6 * np.abs(stress).max()


def test_rows_times_coefficients_are_the_prediction(model):
    n = len(model.atoms)
    rows = model.energy_model.design(model.atoms) @ model.theta
    prediction = model(model.atoms)
    assert abs(rows[0] - prediction.energy) < 1e-9 * abs(prediction.energy)
    np.testing.assert_allclose(rows[1 : 1 + 3 * n], prediction.forces.ravel(), atol=1e-9)
    if prediction.stress is not None:
        strain = rows[1 + 3 * n :].reshape(3, 3) / model.atoms.get_volume()
        np.testing.assert_allclose(0.5 * (strain + strain.T), prediction.stress, atol=1e-10)


def test_rank_one_tensors_leave_the_quadratic_part_out(model):
    linear = Model(model.atoms, SIZES["three-body"], order=1)
    full = linear.energy_model.tensors(linear.theta, order=2)
    assert linear.tensors.quadratic.size == 0
    np.testing.assert_allclose(
        linear(model.atoms).forces,
        linear.energy_model.evaluate(model.atoms, full).forces,
        atol=1e-10,
    )


@given(seed=st.integers(0, 10**6), improper=st.booleans())
def test_rotation_rotates_the_forces(seed, improper):
    for name in STRUCTURES:
        model = _MODELS[name]
        rotation = Rotation.from_quat(np.random.default_rng(seed).normal(size=4)).as_matrix() * (
            -1 if improper else 1
        )
        turned = model.atoms.copy()
        turned.set_cell(turned.cell.array @ rotation.T)
        turned.positions[:] = turned.positions @ rotation.T
        one, other = model(model.atoms), model(turned)
        assert abs(one.energy - other.energy) < 1e-9
        np.testing.assert_allclose(other.forces, one.forces @ rotation.T, atol=1e-9)


@given(shift=st.tuples(*[st.floats(-20, 20)] * 3))
def test_translation_changes_nothing(shift):
    for name in STRUCTURES:
        model = _MODELS[name]
        moved = model.atoms.copy()
        moved.positions += shift
        one, other = model(model.atoms), model(moved)
        assert abs(one.energy - other.energy) < 1e-9
        np.testing.assert_allclose(other.forces, one.forces, atol=1e-9)


@given(seed=st.integers(0, 10**6))
def test_permutation_permutes_the_forces(seed):
    atoms = ethanol()
    order = np.random.default_rng(seed).permutation(len(atoms))
    one, other = _MODELS["molecule"](atoms), _MODELS["molecule"](atoms[order])
    assert abs(one.energy - other.energy) < 1e-10
    np.testing.assert_allclose(other.forces, one.forces[order], atol=1e-10)


@given(repeat=st.tuples(*[st.integers(1, 2)] * 3))
def test_supercell_repeats_everything(repeat):
    model = _MODELS["crystal"]
    big = model.atoms.repeat(repeat)
    times = int(np.prod(repeat))
    one, other = model(model.atoms), model(big)
    assert abs(other.energy - times * one.energy) < 1e-9 * times
    np.testing.assert_allclose(other.forces, np.tile(one.forces, (times, 1)), atol=1e-9)
    np.testing.assert_allclose(other.stress, one.stress, atol=1e-11)


@given(wraps=st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=8, max_size=8))
def test_wrapping_changes_nothing(wraps):
    model = _MODELS["crystal"]
    moved = model.atoms.copy()
    moved.positions += np.array(wraps) @ moved.cell.array
    np.testing.assert_allclose(model(moved).forces, model(model.atoms).forces, atol=1e-9)


def test_bits_do_not_depend_on_the_age_of_the_neighbour_list():
    fresh, aged = Model(quartz_like()), Model(quartz_like())
    rng = np.random.default_rng(2)
    atoms = quartz_like()
    for _ in range(4):  # moves within the skin of the list built at the start
        atoms.positions += rng.uniform(-0.03, 0.03, atoms.positions.shape)
        fresh = Model(quartz_like())
        assert fresh(atoms).forces.tobytes() == aged(atoms).forces.tobytes()


@given(
    strain=st.lists(st.floats(-0.08, 0.08), min_size=9, max_size=9),
    moves=st.floats(0.0, 0.3),
    seed=st.integers(0, 1000),
)
def test_a_list_of_another_cell_is_used_only_where_it_is_complete(strain, moves, seed):
    model, atoms = _MODELS["crystal"], _MODELS["crystal"].atoms.copy()
    cache = NeighbourCache(4.0)
    before = cache.of(atoms)
    atoms.set_cell(atoms.cell @ (np.eye(3) + np.reshape(strain, (3, 3))), scale_atoms=True)
    atoms.positions += np.random.default_rng(seed).uniform(-moves, moves, atoms.positions.shape)
    kept = cache.of(atoms)
    if kept.indices is before.indices:
        fresh = NeighbourCache(4.0, skin=1e-9).of(atoms)
        pairs = [set(map(tuple, _pairs(n))) for n in (fresh, kept)]
        assert pairs[0] <= pairs[1]
    if moves == 0.0 and np.abs(strain).max() < 0.02:
        assert kept.indices is before.indices
    assert model(atoms).forces.tobytes() == Model(quartz_like())(atoms).forces.tobytes()


def _pairs(neighbours):
    centre = np.repeat(np.arange(len(neighbours.first) - 1), np.diff(neighbours.first))
    return np.column_stack([centre, neighbours.indices, neighbours.offsets.round(6)])


def test_skin_is_invalidated_exactly_when_it_must_be():
    model = Model(quartz_like())
    atoms = quartz_like()
    model(atoms)
    atoms.positions[0] += (0.7, 0.0, 0.0)  # beyond the skin
    np.testing.assert_allclose(model(atoms).forces, Model(quartz_like())(atoms).forces, atol=1e-12)


def test_rows_of_atoms_sum_to_the_energy_row(model):
    design = model.energy_model.design(model.atoms)
    rows = model.energy_model.atomic_rows(model.atoms)
    np.testing.assert_allclose(rows.sum(axis=0), design[0], atol=1e-9)
    np.testing.assert_allclose(rows @ model.theta, model(model.atoms).atomic_energies, atol=1e-9)


def test_self_coupling_takes_the_derivative_of_the_own_energy_only():
    atoms = ethanol()
    whole, own = Model(atoms), Model(atoms, coupling="self")
    h, i = 1e-4, 3
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[i, 1] += sign * h
        energies.append(whole(moved).atomic_energies[i])
    slope = (energies[0] - energies[1]) / (2 * h)
    forces = own(atoms).forces
    assert forces[i, 1] == pytest.approx(-slope, rel=1e-6)
    rows = own.energy_model.design(atoms)[1 : 1 + 3 * len(atoms)] @ own.theta
    np.testing.assert_allclose(rows, forces.ravel(), atol=1e-9)
    assert np.abs(forces - whole(atoms).forces).max() > 1e-3


def test_threads_change_no_bit():
    atoms = quartz_like().repeat((4, 4, 5))  # split into several ranges of atoms
    atoms.rattle(0.05, seed=1)
    one, two, seven = (Model(quartz_like(), threads=n)(atoms) for n in (1, 2, 7))
    assert one.forces.tobytes() == two.forces.tobytes() == seven.forces.tobytes()
    assert one.stress.tobytes() == two.stress.tobytes() == seven.stress.tobytes()
    assert one.energy == two.energy == seven.energy


def test_a_step_allocates_nothing_in_the_kernels():
    """Apart from numba's allocations per call argument, independent of the number of atoms."""
    models = [Model(quartz_like()), Model(quartz_like().repeat((2, 2, 2)))]
    for model in models:
        model(model.atoms)
    _nrt_python.memsys_enable_stats()
    try:
        counts = [rtsys.get_allocation_stats().alloc]
        for model in models:
            for _ in range(5):
                model.atoms.positions += 1e-3
                model(model.atoms)
            counts.append(rtsys.get_allocation_stats().alloc)
        small, large = np.diff(counts)
        assert 0 < small == large
    finally:
        _nrt_python.memsys_disable_stats()


def test_atoms_fall_back_to_their_class_and_their_species():
    atoms = ethanol()
    model = Model(atoms, SIZES["atom"])
    sharing, species = model.energy_model.sharing, len(model.energy_model.descriptor.species)
    assert (sharing.blocks(atoms)[:, -1] >= 0).all()
    turned = atoms[::-1]  # other atoms at these indices: only the class matches
    blocks = sharing.blocks(turned)
    assert (blocks[:, 0] < species).all()
    assert (blocks[:, 1:] < 0).any()
    torn = atoms.copy()
    torn.positions[2] += 5.0
    assert sharing.blocks(torn)[2].tolist() == [sharing.channels(atoms)[2], -1, -1]


def second_difference(model: Model, first: int, second: int, step: float) -> float:
    """Largest second difference of the energy while an atom is pulled away from another."""
    energies, atoms = [], model.atoms.copy()
    for length in np.arange(1.0, 2.4, step):
        atoms.set_distance(first, second, length, fix=0)
        energies.append(model(atoms).energy)
    return float(np.abs(np.diff(energies, n=2)).max())


@pytest.mark.full
@pytest.mark.parametrize("size", ["environment", "atom"])
def test_energies_have_no_step_where_bonds_break_and_form(size):
    """Second differences fall as the square of the step; at a step of the energy they stay as they
    are, at a step of the force they fall by half.
    """
    whole = ethanol()
    for first, second in itertools.combinations(range(len(whole)), 2):
        broken = whole.copy()
        broken.set_distance(first, second, 2.0, fix=0)
        model = Model(whole, SIZES[size], seen=[broken])
        coarse, fine = (second_difference(model, first, second, step) for step in (0.004, 0.002))
        assert fine < 0.4 * coarse


def test_lonely_atom_has_no_force():
    model = Model(ethanol())
    atoms = ethanol()
    atoms.positions[0] += 50.0
    assert np.abs(model(atoms).forces[0]).max() == 0.0


def test_features_vanish_smoothly_at_the_cutoff():
    atoms = Atoms("C2", [[0, 0, 0], [0, 0, 3.9999]])
    descriptor = Descriptor(atoms.numbers, SMALL)
    assert np.abs(descriptor.features(atoms)).max() < 1e-9


_MODELS = {name: Model(make()) for name, make in STRUCTURES.items()}

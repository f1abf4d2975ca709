"""Sizes of a model: their columns, and models built later equal those built earlier."""

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

from otf.model.blueprint import MOST_CLASSES, Blueprint, Choices, Resolution, Size
from otf.model.bond_graph import BondGraph
from otf.model.descriptor import DescriptorSettings, displaced
from otf.model.sharing import DEVIATION

SETTINGS = DescriptorSettings(
    radial_two=8, radial_three=2, l_max=2, radial_four=2, l_four=2, degree_four=4
)


def ethanol_blueprint(**choices) -> Blueprint:
    return Blueprint(SETTINGS, displaced(molecule("CH3CH2OH"), seed=0), Choices(**choices))


def test_classes_are_those_of_the_bonds():
    ethanol = molecule("CH3CH2OH")
    names = BondGraph().classes(ethanol)
    assert sorted(set(names)) == ["C(CHHH)", "C(CHHO)", "H(C)", "H(O)", "O(CH)"]
    assert BondGraph(longest_A=0.0).classes(ethanol) == tuple(ethanol.symbols)


def test_classes_survive_vibrations_and_notice_a_broken_bond():
    ethanol = molecule("CH3CH2OH")
    graph = BondGraph()
    names = graph.classes(ethanol)
    for moved in displaced(ethanol, seed=3):
        assert graph.classes(moved) == names
    hydroxyl = names.index("H(O)")
    ethanol.positions[hydroxyl] += 3.0
    assert graph.classes(ethanol)[hydroxyl] == "H()"
    assert graph.classes(ethanol)[names.index("O(CH)")] == "O(C)"


def test_classes_follow_permutations_and_reach_over_the_cell_boundary():
    ethanol = molecule("CH3CH2OH")
    order = np.random.default_rng(0).permutation(len(ethanol))
    graph = BondGraph()
    names = graph.classes(ethanol)
    assert graph.classes(ethanol[order]) == tuple(names[i] for i in order)
    silicon = bulk("Si", cubic=True)
    assert set(BondGraph().classes(silicon)) == {"Si(SiSiSiSi)"}


def test_every_size_has_the_columns_it_says():
    blueprint = ethanol_blueprint(sharing=("atom",))
    for size in (Size(), Size("environment", 3), Size("atom", 3, four_body=True)):
        assert blueprint.build(size).n_columns == blueprint.n_columns(size)


def test_the_next_sizes_differ_in_one_thing():
    blueprint = ethanol_blueprint(components=(10, 20), most_columns=10**6)
    start = blueprint.choices.smallest()
    assert blueprint.larger(start) == [
        Size("species", 20),
        Size("environment", 10),
        Size("species", 10, four_body=True),
    ]
    assert blueprint.larger(Size("environment", 20, four_body=True)) == []
    assert ethanol_blueprint(most_columns=blueprint.n_columns(start)).larger(start) == []


def test_environments_come_with_fewer_components_where_there_is_no_room_for_as_many():
    room = ethanol_blueprint(components=(10, 20), most_columns=10**6)
    many, few = (
        room.n_columns(Size(sharing, components))
        for sharing, components in (("environment", 20), ("environment", 10))
    )
    assert few < many
    narrow = ethanol_blueprint(components=(10, 20), most_columns=few, four_body=(False,))
    assert narrow.larger(Size("species", 20)) == [Size("environment", 10)]


def test_other_resolutions_differ_in_one_thing_and_are_built():
    blueprint = ethanol_blueprint(cutoff_three=(4.0, 3.0), radial_three=(2, 3), decay=(0.0, 2.0))
    start = blueprint.choices.smallest()
    assert start.resolution == Resolution(None, 4.0, 2, 0.0)
    assert blueprint.resolved_otherwise(start, "cutoff_two") == []
    (finer,) = blueprint.resolved_otherwise(start, "radial_three")
    assert finer.resolution == Resolution(None, 4.0, 3, 0.0)
    assert blueprint.build(finer).n_columns == blueprint.n_columns(finer)
    assert blueprint.n_columns(finer) > blueprint.n_columns(start)
    (exponential,) = blueprint.resolved_otherwise(start, "decay")
    assert blueprint.build(exponential).descriptor.settings.decay == 2.0
    few = ethanol_blueprint(radial_three=(2, 3), most_columns=blueprint.n_columns(start))
    assert few.resolved_otherwise(few.choices.smallest(), "radial_three") == []


def test_environments_never_outgrow_the_columns_allowed():
    free = ethanol_blueprint(sharing=("environment",))
    size = Size("environment", 10)
    limit = free.n_columns(size)
    tight = ethanol_blueprint(sharing=("environment",), most_columns=limit)
    for blueprint in (free, tight):
        for atom in (3, 4, 5):
            torn = molecule("CH3CH2OH")
            torn.positions[atom] += 3.0
            blueprint.see(torn)
    assert free.n_columns(size) > limit
    assert tight.n_columns(size) <= limit
    assert tight.build(size).n_columns == tight.n_columns(size)


def test_no_environments_by_themselves_where_bonds_flicker():
    copper = Blueprint(SETTINGS, displaced(bulk("Cu", cubic=True) * (2, 2, 2), seed=0))
    assert all(s.sharing == "species" for s in copper.larger(copper.choices.smallest()))


def test_more_components_than_features_are_not_offered():
    blueprint = ethanol_blueprint(components=(10, 500, 600), most_columns=10**6)
    most = blueprint.build(Size()).descriptor.n_low
    assert blueprint.choices.components == (10, most)
    assert blueprint.build(Size(components=most)).n_columns == blueprint.n_columns(
        Size(components=most)
    )


def test_nothing_to_share_by_environment_in_methane():
    blueprint = Blueprint(SETTINGS, displaced(molecule("CH4"), seed=0))
    assert all(s.sharing == "species" for s in blueprint.larger(blueprint.choices.smallest()))


def test_deviations_have_a_prior_of_their_own():
    model = ethanol_blueprint().build(Size("environment", 3))
    prior = model.prior[: model.leading(1)].reshape(model.sharing.n_blocks, -1)
    assert (prior[:3, 1:] == 1.0).all()
    assert (prior[3:] == DEVIATION).all()


def test_a_new_environment_starts_from_its_species():
    blueprint = ethanol_blueprint(sharing=("environment",))
    size = blueprint.choices.smallest()
    before = blueprint.build(size)
    broken = molecule("CH3CH2OH")
    broken.positions[broken.symbols.search("O")[0]] += (0.0, 0.0, 2.5)
    theta = np.random.default_rng(0).normal(size=before.n_columns)
    energies = before.evaluate(broken, before.tensors(theta, order=2)).atomic_energies
    assert blueprint.see(broken)
    assert not blueprint.see(broken)
    after = blueprint.build(size)
    grown = np.zeros(after.n_columns)
    split = after.leading(1), before.leading(1)
    old, new = before.sharing.groups, after.sharing.groups
    for mine, theirs in (
        (slice(0, split[0]), slice(0, split[1])),
        (slice(split[0], None), slice(split[1], None)),
    ):
        block = grown[mine].reshape(after.sharing.n_blocks, -1)
        known = theta[theirs].reshape(before.sharing.n_blocks, -1)
        block[:3] = known[:3]
        for i, name in enumerate(old.classes):
            block[3 + new.classes.index(name)] = known[3 + i]
    predicted = after.evaluate(broken, after.tensors(grown, order=2)).atomic_energies
    np.testing.assert_allclose(predicted, energies, atol=1e-8)


def test_no_more_blocks_than_a_model_can_carry():
    rng = np.random.default_rng(0)
    gas = Atoms("C60H60", rng.uniform(0.0, 7.0, size=(120, 3)))
    blueprint = Blueprint(SETTINGS, [gas], Choices(("environment",)))
    model = blueprint.build(Size("environment", 3))
    assert model.sharing.n_blocks == 2 + MOST_CLASSES
    assert not blueprint.see(Atoms("C60H60", rng.uniform(0.0, 7.0, size=(120, 3))))


def test_building_late_equals_building_early():
    """Environments seen later add blocks and leave existing ones unchanged."""
    blueprint = ethanol_blueprint()
    size = Size("environment", 4)
    one = blueprint.build(size)
    torn = molecule("CH3CH2OH")
    torn.positions[-1] += 3.0
    assert blueprint.see(torn)
    other = blueprint.build(size)
    assert other.sharing.n_blocks > one.sharing.n_blocks
    for i, name in enumerate(one.sharing.groups.classes):
        j = other.sharing.groups.classes.index(name)
        for before, after in zip(one.standard, other.standard):
            assert before[3 + i].tobytes() == after[3 + j].tobytes()


def test_a_structure_of_other_atoms_uses_what_it_knows():
    model = ethanol_blueprint(sharing=("atom",)).build(Size("atom", 3))
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    assert (model.sharing.blocks(water)[:, -1] == -1).all()


def test_few_rows_leave_room_for_more_columns_than_many():
    blueprint = ethanol_blueprint(components=(10, 20), four_body=(False,))
    small, large = Size(), Size("environment", 20)
    most = blueprint.n_columns(small)
    narrow = ethanol_blueprint(components=(10, 20), four_body=(False,), most_columns=most)
    assert narrow.larger(small) == []
    narrow.make_room(rows=most)
    assert narrow.most_columns == 4 * most
    assert narrow.fits(large) == (blueprint.n_columns(large) <= 4 * most)
    assert Size("species", 20) in narrow.larger(small)
    narrow.make_room(rows=most + 1)
    assert narrow.most_columns == most
    assert narrow.fits(small)
    assert not narrow.fits(Size("species", 20))


def test_environments_replace_four_body_features_where_there_is_no_room_for_both():
    room = ethanol_blueprint(components=(10, 20), most_columns=10**6)
    both = Size("environment", 10, four_body=True)
    assert both in room.larger(Size("species", 10, four_body=True))
    tight = ethanol_blueprint(components=(10, 20), most_columns=room.n_columns(both) - 1)
    simpler = Size("environment", 20)
    assert room.n_columns(simpler) < room.n_columns(both)
    assert tight.larger(Size("species", 10, four_body=True))[-1:] == [simpler]

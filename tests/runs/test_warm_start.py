"""Warm starts of a real engine from learned matrices, and the resulting labels."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import ase.build
import ase.data
import numpy as np
import pytest
from ase import Atoms

from otf.config import read_config
from otf.electrons.bond_features import BondFeatures
from otf.electrons.density_guesses import (
    EXTRAPOLATED,
    LEARNED,
    PREVIOUS,
    DensityGuesses,
    describe,
)
from otf.engines.failures import FROM_SCRATCH
from otf.engines.labels import LabelFailure, Labels
from otf.engines.registry import load_engine
from otf.errors import ConfigError
from otf.io.array_file import read_arrays, write_arrays
from otf.io.matrices import read_matrices
from otf.orbitals.block_matrices import BlockMatrix, Pairs
from otf.runs.checkpoint import read_checkpoint
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.replicas import run_replicas
from otf.runs.session import run_session
from otf.runs.warm_start import SCRATCH, WarmStarted, _Start, gains, warm_started

pytestmark = pytest.mark.full  # PySCF

pytest.importorskip("pyscf")


def opened(scratch, atoms=None, **options):
    engine_class = load_engine("pyscf")
    given = {"basis": "6-31g", "grid_level": 1, "threads": 1, **options}
    engine = engine_class(engine_class.Options.model_validate(given), charge=0, spin=0)
    engine.open(ase.build.molecule("H2O") if atoms is None else atoms, scratch)
    return engine


def structures(count: int):
    rng = np.random.default_rng(6)
    out = [ase.build.molecule("H2O") for _ in range(count)]
    for atoms in out:
        atoms.positions += rng.normal(scale=0.03, size=(3, 3))
    return out


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Twenty labels with the best available warm starts."""
    folder = tmp_path_factory.mktemp("run")
    asked = warm_started(opened(folder / "engine"), folder / "matrices")
    return folder, [asked.label(a, index=k) for k, a in enumerate(structures(20))]


def test_learned_starts_take_fewer_cycles_and_end_the_same(labelled, tmp_path):
    folder, labels = labelled
    cold = opened(tmp_path, warm_start="previous", tolerance_eV=1e-10)
    for k in (15, 19):
        exact = cold.label(structures(20)[k], index=0, remedies=[FROM_SCRATCH])
        assert labels[k].energy == pytest.approx(exact.energy, abs=1e-6)
        np.testing.assert_allclose(labels[k].forces, exact.forces, atol=1e-3)
    history = [
        SimpleNamespace(
            index=k, scf_iterations=x.scf_iterations, wall_s=0.5 + 2.0 * x.scf_iterations
        )
        for k, x in enumerate(labels)
    ]
    found = gains(folder / "matrices", history)
    learned = [found.by_start[name] for name in LEARNED if name in found.by_start]
    assert sum(count for count, _ in learned) > 8
    usual = found.by_start[PREVIOUS][1]
    assert sum(n * mean for n, mean in learned) / sum(n for n, _ in learned) < 0.7 * usual
    better = [x for name, x in found.by_start.items() if name not in (PREVIOUS, SCRATCH)]
    assert found.cycles == pytest.approx(sum(n * (usual - mean) for n, mean in better))
    assert found.seconds == pytest.approx(2.0 * found.cycles)
    assert f"{found.cycles:.0f} cycles saved" in found.in_words()[-1]


def test_a_label_repeated_after_a_restart_is_the_same_to_the_last_bit(labelled, tmp_path):
    folder, labels = labelled
    shutil.copytree(folder, tmp_path / "run")
    for path in (tmp_path / "run/matrices").glob("0*.h5"):
        if int(path.stem) > 15:  # as after a kill before label 15 was committed
            path.unlink()
    asked = warm_started(opened(tmp_path / "run/engine"), tmp_path / "run/matrices")
    again = asked.label(structures(20)[15], index=15)
    assert again.energy == labels[15].energy
    assert again.forces.tobytes() == labels[15].forces.tobytes()
    assert again.scf_iterations == labels[15].scf_iterations


def test_a_label_that_is_doubted_learns_nothing_of_itself(labelled, tmp_path):
    folder, labels = labelled
    shutil.copytree(folder, tmp_path / "run")
    asked = warm_started(opened(tmp_path / "run/engine"), tmp_path / "run/matrices")
    doubted = asked.label(structures(20)[19], index=19, remedies=[FROM_SCRATCH])
    assert doubted.scf_iterations > labels[19].scf_iterations
    assert read_matrices(tmp_path / "run/matrices/000019.h5").start == "scratch"
    again = asked.label(structures(20)[19], index=19)
    assert again.forces.tobytes() == labels[19].forces.tobytes()


def test_learned_matrices_are_nearer_than_the_ones_before(labelled):
    folder, _ = labelled
    last = [read_matrices(folder / f"matrices/{k:06d}.h5").errors for k in range(16, 20)]
    for errors in last:
        assert min(errors[name] for name in LEARNED) < 0.05 * errors[PREVIOUS]


def test_only_who_wants_it_and_can_is_started_better(tmp_path):
    assert isinstance(warm_started(opened(tmp_path), tmp_path), WarmStarted)
    engine = opened(tmp_path, warm_start="previous")
    assert warm_started(engine, tmp_path) is engine
    other = load_engine("tblite")
    engine = other(other.Options(), charge=0, spin=0)
    assert warm_started(engine, tmp_path) is engine


def test_nothing_is_guessed_from_nothing():
    assert DensityGuesses().of(ase.build.molecule("H2O")) == {}


@pytest.mark.parametrize("name", ["Ne", "N2"])
def test_symmetry_may_leave_nothing_to_learn(tmp_path, name):
    """A single atom has no neighbours, and a dimer has no environment around its bond."""
    atoms = Atoms("Ne") if name == "Ne" else ase.build.molecule(name)
    asked = warm_started(opened(tmp_path, atoms), tmp_path / "matrices")
    rng = np.random.default_rng(1)
    for k in range(8):
        moved = atoms.copy()
        moved.positions += rng.normal(scale=0.02, size=moved.positions.shape)
        assert asked.label(moved, index=k).scf_iterations is not None
    errors = read_matrices(tmp_path / "matrices/000007.h5").errors
    assert min(errors[name] for name in LEARNED) < 1e-3


def test_a_failed_label_keeps_its_reason(tmp_path):
    engine = opened(tmp_path, max_iterations=1)
    asked = warm_started(engine, tmp_path / "matrices")
    answer = asked.label(ase.build.molecule("H2O"), index=0)
    assert isinstance(answer, LabelFailure)
    assert "did not converge" in answer.reason
    assert not list((tmp_path / "matrices").glob("*"))


def test_damaged_files_and_another_basis_cost_a_good_start_only(labelled, tmp_path, caplog):
    folder, _ = labelled
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run/matrices/000004.h5"
    path.write_bytes(path.read_bytes()[:2000])
    asked = warm_started(opened(tmp_path / "run/engine"), tmp_path / "run/matrices")
    assert asked.label(structures(20)[19], index=19).scf_iterations < 4
    assert "goes on without it" in caplog.text
    other = warm_started(opened(tmp_path / "o", basis="sto-3g"), tmp_path / "run/matrices")
    for k in (18, 19):
        assert isinstance(other.label(structures(20)[k], index=k), Labels)
    assert read_matrices(tmp_path / "run/matrices/000018.h5").errors == {}
    assert read_matrices(tmp_path / "run/matrices/000019.h5").start == PREVIOUS


def test_matrices_of_another_version_are_passed_over(labelled, tmp_path, caplog):
    folder, _ = labelled
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run/matrices/000004.h5"
    scalars, arrays = read_arrays(path, "matrices")
    write_arrays(path, "matrices", {k: v for k, v in scalars.items() if k != "basis"}, arrays)
    asked = warm_started(opened(tmp_path / "run/engine"), tmp_path / "run/matrices")
    assert isinstance(asked.label(structures(20)[19], index=19), Labels)
    assert "another version" in caplog.text


def test_a_folder_that_cannot_be_written_costs_no_label(tmp_path, caplog):
    (tmp_path / "matrices").write_text("in the way")
    asked = warm_started(opened(tmp_path), tmp_path / "matrices")
    assert isinstance(asked.label(ase.build.molecule("H2O"), index=0), Labels)
    assert "are not kept" in caplog.text


def test_what_takes_more_cycles_is_used_no_more():
    """Small error of the matrix, but more SCF iterations: tried only occasionally."""
    warm = WarmStarted(SimpleNamespace(), Path(), (PREVIOUS, *LEARNED))
    errors = {PREVIOUS: 1.0, LEARNED[0]: 0.1}
    guesses = dict.fromkeys(errors)
    chosen = []
    for index in range(24):
        name = warm._best(guesses, index)
        warm._starts.append(_Start(name, 4 if name == PREVIOUS else 6, errors))
        chosen.append(name)
    assert chosen[0] == PREVIOUS
    assert chosen[1] == LEARNED[0]
    assert chosen[-7:].count(PREVIOUS) >= 6


@pytest.mark.parametrize(("symbols", "most"), [("HO", 1500), ("HCO", 1500), ("HCNO", 1000)])
def test_a_description_can_be_solved_for(symbols, most):
    numbers = [ase.data.atomic_numbers[symbol] for symbol in symbols]
    shells = dict.fromkeys(numbers, (0, 0, 1, 1, 2))
    matrix = BlockMatrix(np.array(numbers), shells, Pairs.all_of(len(numbers)), np.empty(0))
    found = describe(matrix)
    features = BondFeatures(
        found.bond.count, len(numbers), found.around.count, found.l_max, found.bond_budget
    )
    assert 100 < len(features.degrees(0)) < most


# Non-self-consistent force checks

OFTEN = """\
system: {molecule: H2O}
engine: {kind: pyscf, basis: 6-31g, grid_level: 1, threads: 1}
dynamics: {ensemble: csvr, temperature_K: 600, steps: 300, timestep_fs: 0.5}
policy: {force_target_meV_A: 8, guard: 0.5, guard_every: 5, force_check: true}
"""


def test_a_force_check_is_within_its_bound_and_leaves_nothing(labelled, tmp_path):
    folder, labels = labelled
    shutil.copytree(folder, tmp_path / "run")
    engine = opened(tmp_path / "run" / "engine")
    asked = warm_started(engine, tmp_path / "run" / "matrices")
    atoms = structures(20)[19]
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*"))
    found = asked.check_forces(atoms, index=19)
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*")) == before
    cold = opened(tmp_path / "cold", warm_start="previous", tolerance_eV=1e-10)
    error = np.abs(found.forces - cold.label(atoms, index=0).forces).max()
    assert 0.001 * found.within < error < found.within
    again = asked.label(atoms, index=19)
    np.testing.assert_array_equal(again.forces, labels[19].forces)
    assert asked.check_forces(atoms, index=1) is None  # one label is too few to learn from


def test_force_checks_avoid_labels(tmp_path):
    source = tmp_path / "c.yaml"
    source.write_text(OFTEN)
    run = create_run(read_config(source), source, tmp_path / "run")
    summary = run_session(*read_run(run.path))
    state = read_checkpoint(run.checkpoint).state
    assert state.force_checks == summary.force_checks
    asked, spared = summary.force_checks.asked, summary.force_checks.spared
    assert spared > 0
    assert asked - spared == sum(record.reason == "guard" for record in state.history)
    assert summary.error.force_mae_meV_A < 1.5 * 8


@pytest.mark.parametrize(
    "engine", ["kind: tblite", "kind: pyscf, warm_start: previous"], ids=["tblite", "previous"]
)
def test_force_checks_need_learned_matrices(tmp_path, engine):
    source = tmp_path / "c.yaml"
    start, end = OFTEN.index("{kind"), OFTEN.index("}\ndynamics")
    source.write_text(OFTEN[:start] + "{" + engine + OFTEN[end:])
    with pytest.raises(ConfigError, match=r"policy\.force_check: .* remove it"):
        create_run(read_config(source), source, tmp_path / "run")


def test_force_checks_work_with_replicas(tmp_path):
    """Once they were accepted there and never made: the wrapper lacked the method."""
    source = tmp_path / "c.yaml"
    source.write_text(OFTEN.replace("steps: 300", "steps: 100") + "replicas: {count: 2}\n")
    run = create_run(read_config(source), source, tmp_path / "run")
    summary = run_replicas(*read_run(run.path)[:2])
    assert sum(replica.force_checks.asked for replica in summary.replicas) > 0


def test_a_label_learns_nothing_of_those_computed_at_once(labelled, tmp_path):
    folder, _ = labelled
    answers = []
    for name, gone in (("all", ()), ("in_progress", (13, 14))):
        shutil.copytree(folder, tmp_path / name)
        for index in gone:
            (tmp_path / name / f"matrices/{index:06d}.h5").unlink()
        engine = opened(tmp_path / name / "engine")
        asked = WarmStarted(engine, tmp_path / name / "matrices", (EXTRAPOLATED,), unknown=2)
        answers.append(asked.label(structures(20)[15], index=15))
    assert answers[0].forces.tobytes() == answers[1].forces.tobytes()

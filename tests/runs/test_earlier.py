"""Runs that start with the labels of earlier ones (``learn_from``)."""

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

import otf
from otf.config.reader import config_of
from otf.engines.digest import engine_digest
from otf.engines.registry import load_engine
from otf.errors import ConfigError
from otf.io.labels import read_labels
from otf.runs.checkpoint import read_checkpoint
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.drop_label import drop_label
from otf.runs.earlier import EarlierLabels, read_earlier, taught
from otf.runs.replicas import run_replicas
from otf.runs.session import run_session
from tests.engines.siesta_standin import GOLDEN

EMT_ENGINE = {"kind": "ase", "calculator": "ase.calculators.emt:EMT"}


def copper(layers=1, symbol="Cu"):
    atoms = bulk(symbol, cubic=True) * (2, 2, layers)
    atoms.rattle(0.1, seed=layers)
    return atoms


def run_of(folder, atoms=None, *, engine=EMT_ENGINE, steps=60, temperature_K=900, **options):
    return otf.Run(
        copper() if atoms is None else atoms,
        engine=engine,
        directory=folder,
        steps=steps,
        ensemble="csvr",
        temperature_K=temperature_K,
        timestep_fs=4.0 if engine == EMT_ENGINE else 0.5,
        force_target_meV_A=20.0,
        **options,
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    run = run_of(tmp_path_factory.mktemp("runs") / "first")
    run.run()
    return run


@pytest.mark.parametrize("layers", [1, pytest.param(2, marks=pytest.mark.full)])
def test_labels_of_another_temperature_or_size_spare_labels(tmp_path, first, layers):
    atoms = copper(layers)
    alone = run_of(tmp_path / "alone", atoms, temperature_K=1200)
    alone.run()
    second = run_of(tmp_path / "second", atoms, temperature_K=1200, learn_from=[first.directory])
    assert second.run().earlier == {str(first.directory): first.summary.labels}
    early = [
        sum(r.step <= 10 for r in read_checkpoint(run._files.checkpoint).state.history)
        for run in (second, alone)
    ]
    assert early[0] < early[1]
    for frame in second.trajectory[::20]:
        forces = frame.get_forces()
        frame.calc = EMT()
        assert np.abs(frame.get_forces() - forces).mean() < 0.03


def test_a_run_left_and_continued_is_the_same(tmp_path):
    # EMT would not do: its forces depend on the structures before.
    atoms = molecule("CH4")
    first = run_of(tmp_path / "first", atoms, engine="tblite", steps=10)
    first.run()
    again = {"engine": "tblite", "learn_from": [first.directory], "steps": 40}
    whole = run_of(tmp_path / "whole", atoms, **again)
    whole.run()
    parts = run_of(tmp_path / "parts", atoms, **again)
    for number, _ in enumerate(parts):
        if number == 2:
            break
    again = otf.Run.open(tmp_path / "parts")
    again.run()
    one, other = (run.trajectory[-1].positions for run in (whole, again))
    assert one.tobytes() == other.tobytes()
    assert again.summary.labels == whole.summary.labels


def test_the_run_directory_is_complete_without_the_earlier_run(tmp_path):
    earlier = run_of(tmp_path / "earlier", steps=20)
    earlier.run()
    copper().write(tmp_path / "cu.extxyz")
    config = config_of(
        {
            "system": {"structure": "cu.extxyz"},
            "engine": EMT_ENGINE,
            "dynamics": {"steps": 10, "timestep_fs": 2.0},
            "learn_from": ["earlier"],
        },
        tmp_path,
    )
    run = create_run(config, tmp_path / "c.yaml", tmp_path / "run")
    (tmp_path / "earlier").rename(tmp_path / "gone")
    run, config, atoms = read_run(run.path)
    assert config.learn_from[0].path == tmp_path / "earlier"
    (source,) = read_earlier(run)
    assert len(source.labels) == earlier.summary.labels
    assert run_session(run, config, atoms).steps == 10


def test_energies_of_another_composition_are_left_out_and_its_forces_learned(tmp_path):
    gold = run_of(tmp_path / "gold", copper(symbol="Au"), steps=10)
    gold.run()
    mixed = copper()
    mixed.symbols[::2] = "Au"
    run = run_of(tmp_path / "mixed", mixed, steps=20, learn_from=[gold.directory, gold.directory])
    summary = run.run()
    (stored, _) = read_earlier(run._files)
    learned = taught([stored], mixed)
    assert all(t.labels.level == t.labels.energy for t in learned)
    assert taught([stored], copper(symbol="Au"))[0].labels.level == 0.0
    assert summary.energy_conservation is not None
    error = run.trajectory[-1].get_potential_energy()
    frame = run.trajectory[-1].copy()
    frame.calc = EMT()
    assert abs(frame.get_potential_energy() - error) < 0.02


def test_every_source_is_a_trajectory_of_its_own(first):
    labels = read_labels(first._files.labels)
    known = taught([EarlierLabels("a", 2.0, labels), EarlierLabels("b", 1.0, labels)], copper())
    assert {t.trajectory for t in known} == {-1, -2}
    assert [t.time_fs for t in known[: len(labels)]] == [2.0 * s.step for s in labels]


@pytest.mark.full
def test_a_label_can_be_dropped_from_a_run_with_earlier_labels(tmp_path, first):
    run = run_of(tmp_path / "run", learn_from=[first.directory], temperature_K=1500)
    count = run.run().labels
    assert count > 3
    drop_label(tmp_path / "run", 1, reason="test")
    again = otf.Run.open(tmp_path / "run").extend(10)
    again.run()
    assert again.summary.labels >= count - 1


@pytest.mark.full
def test_replicas_share_earlier_labels(tmp_path, first):
    copper().write(tmp_path / "cu.extxyz")
    config = config_of(
        {
            "system": {"structure": "cu.extxyz"},
            "engine": EMT_ENGINE,
            "dynamics": {"steps": 40, "timestep_fs": 2.0, "ensemble": "csvr"},
            "replicas": {"count": 2},
            "learn_from": [str(first.directory)],
        },
        tmp_path,
    )
    run = create_run(config, tmp_path / "c.yaml", tmp_path / "run")
    summary = run_replicas(run, read_run(run.path)[1])
    assert [replica.steps for replica in summary.replicas] == [40, 40]
    for replica in (0, 1):  # the model had learned something before its first label
        path = run.path / f"replica-{replica}" / "checkpoint.h5"
        assert read_checkpoint(path).state.history[0].force_mae < 0.1
    assert not (run.path / "replica-0" / "earlier").exists()
    assert run_replicas(run, read_run(run.path)[1]).labels == summary.labels


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("nowhere", r"learn_from, entry 1: .*nowhere: is not there"),
        ("others.extxyz", r"does not say which engine .* \{path: .*, same_engine: true\}"),
        ({"path": "broken.extxyz", "same_engine": True}, "broken.extxyz: cannot be read"),
        ({"path": "bare.extxyz", "same_engine": True}, "bare.extxyz, frame 0: has no energy"),
        ("tight", r"another engine \(tblite\)"),
        ({"route": "x"}, "learn_from.*path"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(tmp_path, first, entry, message):
    atoms = copper()
    atoms.calc = EMT()
    atoms.get_forces()
    atoms.write(tmp_path / "others.extxyz")
    copper().write(tmp_path / "bare.extxyz")
    (tmp_path / "broken.extxyz").write_text("3\nnot\n")
    config = config_of(
        {"system": {"molecule": "H2"}, "engine": {"kind": "tblite"}, "dynamics": {"steps": 1}},
        tmp_path,
    )
    create_run(config, tmp_path / "c.yaml", tmp_path / "tight")
    (tmp_path / "cu.extxyz").write_bytes((tmp_path / "bare.extxyz").read_bytes())
    with pytest.raises(ConfigError, match=message):
        create_run(
            config_of(
                {
                    "system": {"structure": "cu.extxyz"},
                    "engine": EMT_ENGINE,
                    "dynamics": {"steps": 1},
                    "learn_from": [entry],
                },
                tmp_path,
            ),
            tmp_path / "c.yaml",
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.full
def test_files_of_the_same_engine_are_learned_from(tmp_path):
    frames = []
    for seed in range(12):
        atoms = copper()
        atoms.rattle(0.08, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    path = tmp_path / "cu.extxyz"
    ase.io.write(path, frames)
    given = {"path": str(path), "same_engine": True}
    run = run_of(tmp_path / "run", learn_from=[given])
    assert run.run().earlier == {str(path): 12}
    assert read_checkpoint(tmp_path / "run" / "checkpoint.h5").state.history[0].force_mae < 0.05


def test_coefficients_of_each_atom_need_the_same_atoms(tmp_path, first):
    with pytest.raises(ConfigError, match=r"has other atoms, and model\.sharing: atom"):
        run_of(
            tmp_path / "run",
            copper(2),
            learn_from=[first.directory],
            config={"model": {"sharing": "atom"}},
        )


def test_damaged_copies_are_named(tmp_path, first):
    run = run_of(tmp_path / "run", learn_from=[first.directory], steps=5)
    (tmp_path / "run" / "earlier" / "sources.json").write_text(json.dumps([{"of": "x"}]))
    with pytest.raises(otf.errors.FileError, match=r"sources\.json: cannot be read"):
        run.run()


def options(kind, **given):
    engine = load_engine(kind)
    return engine, engine.Options.model_validate(given)


def test_settings_that_affect_labels_make_other_digests():
    base = engine_digest(*options("pyscf", basis="sto-3g"))
    assert engine_digest(*options("pyscf", basis="sto-3g", threads=4)) == base
    assert engine_digest(*options("pyscf", basis="def2-svp")) != base
    assert engine_digest(*options("tblite")) != engine_digest(*options("tblite", method="GFN1-xTB"))


@pytest.mark.parametrize(
    ("kind", "name", "same", "other"),
    [
        (
            "siesta",
            "siesta_base.fdf",
            [("4.757", "4.8"), ("LatticeConstant 8.0", "LatticeConstant 9.0")],
            ("MeshCutoff", "MeshCutoff 321 Ry\n#"),
        ),
        (
            "openmx",
            "openmx_base.dat",
            [("System.Name", "System.Name other\n#")],
            ("scf.energycutoff", "scf.energycutoff 321\n#"),
        ),
    ],
)
def test_input_files_count_without_structure_and_output(tmp_path, kind, name, same, other):
    folder = tmp_path / kind
    folder.mkdir()
    text = (GOLDEN.parent / kind / "decks" / name).read_text()

    def digest(text):
        path = folder / "job"
        path.write_text(text)
        engine, valid = options(kind, template=str(path), command="true")
        return engine_digest(engine, valid)

    base = digest(text)
    for old, new in same:
        assert old in text
        assert digest(text.replace(old, new)) == base
    assert digest(text.lower().replace(other[0].lower(), other[1])) != base
    assert digest(text + "\n# a comment\n") == base

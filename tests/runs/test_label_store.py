"""The store of labels, and runs that start with what it holds."""

import threading

import ase.io
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

import otf
from otf.config.reader import config_of
from otf.errors import ConfigError, FileError
from otf.runs.label_store import add_run, fitting_sets, stored_sets
from tests.cli.command import otf as command

ENGINE = {"kind": "ase", "calculator": "ase.calculators.emt:EMT"}


def crystal(symbol="Cu", layers=1):
    atoms = bulk(symbol, cubic=True) * (1, 1, layers)
    atoms.rattle(0.05, seed=layers)
    return atoms


def run_of(folder, atoms=None, *, engine=ENGINE, steps=10, **options):
    run = otf.Run(
        crystal() if atoms is None else atoms,
        engine=engine,
        directory=folder,
        steps=steps,
        timestep_fs=4.0,
        temperature_K=600,
        **options,
    )
    run.run()
    return run


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("OTF_STORE", str(tmp_path / "labels"))
    return tmp_path / "labels"


def test_a_run_starts_with_the_labels_of_the_store(tmp_path, store):
    first = run_of(tmp_path / "first")
    count = len(first.labels)
    said = command("store", "add", first.directory).stdout
    assert f"{count} labels added to {store}" in said
    second = run_of(tmp_path / "second", crystal(layers=2), learn_from="store")
    ((of, known),) = second.summary.earlier.items()
    assert known == count
    assert of.startswith(f"{store}/")
    listed = command("store", "list").stdout
    assert f"{count:>6}      4    600  Cu            {first.directory}" in listed
    (frames,) = [ase.io.read(file, ":") for file in store.glob("*/first-*.extxyz")]
    assert len(frames) == count  # readable by others
    reopened = otf.open_run(second.directory)
    assert reopened._config.learn_from[0].store == store


def test_labels_are_added_once(tmp_path, store):
    run = run_of(tmp_path / "run")
    count = len(run.labels)
    assert add_run(run.directory, store) == count
    assert add_run(run.directory, store) == 0
    run.extend(20).run()
    assert add_run(run.directory, store) == len(run.labels) - count > 0
    assert sum(row.labels for _, row in stored_sets(store)) == len(run.labels)


def test_only_labels_of_the_same_settings_and_elements_fit(tmp_path, store):
    add_run(run_of(tmp_path / "cu").directory, store)
    add_run(run_of(tmp_path / "au", crystal("Au")).directory, store)
    other = {**ENGINE, "keywords": {"asap_cutoff": True}}
    add_run(run_of(tmp_path / "other", engine=other).directory, store)

    def fitting(symbols, engine=ENGINE, charge=0):
        sections = {
            "system": {"molecule": "H", "charge": charge},
            "engine": engine,
            "dynamics": {"steps": 1},
        }
        atoms = crystal()
        atoms.symbols[:2] = symbols
        found = fitting_sets(store, config_of(sections, tmp_path), atoms)
        return sorted(source.of.rpartition("/")[2].partition("-")[0] for source in found)

    assert fitting("Cu2") == ["cu"]
    assert fitting("AuCu") == ["au", "cu"]
    assert fitting("Cu2", other) == ["other"]
    assert fitting("Cu2", charge=1) == []


def test_what_is_damaged_or_unfinished_is_left_out(tmp_path, store, caplog):
    add_run(run_of(tmp_path / "one").directory, store)
    add_run(run_of(tmp_path / "two", crystal(layers=2)).directory, store)
    one, two = sorted(store.glob("*/*.json"))
    one.write_text("{")
    two.rename(two.with_suffix(".tmp"))
    assert stored_sets(store) == []
    assert f"{one}: left out, since it cannot be read" in caplog.text
    two.with_suffix(".tmp").rename(two)
    two.with_suffix(".extxyz").unlink()
    assert stored_sets(store) == []
    assert f"{two}: left out, since two-" in caplog.text


@pytest.mark.full
def test_several_writers_need_no_lock(tmp_path, store):
    runs = [run_of(tmp_path / f"run{i}", crystal(layers=i + 1)) for i in range(3)]
    threads = [threading.Thread(target=add_run, args=(run.directory, store)) for run in runs * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({row.of for _, row in stored_sets(store)}) == 3
    total = sum(len(run.labels) for run in runs)
    assert sum(row.labels for _, row in stored_sets(store)) == total


def test_an_empty_store_is_said_and_does_no_harm(tmp_path, store, caplog):
    assert f"{store}: holds no labels; `otf store add RUN`" in command("store", "list").stdout
    run = run_of(tmp_path / "run", learn_from=["store"])
    assert run.summary.earlier == {}
    assert f"{store} has no labels of this engine, its settings and these elements" in caplog.text


def test_mistakes_are_named(tmp_path, store):
    with pytest.raises(FileError, match="is not a run"):
        add_run(tmp_path, store)
    run = run_of(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="choose another store"):
        add_run(run.directory, tmp_path / "file")
    with pytest.raises(ConfigError, match="give either path or store"):
        otf.Run(
            crystal(), engine=EMT(), directory=tmp_path / "new", learn_from=[{"same_engine": True}]
        )

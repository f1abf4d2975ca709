"""Runs whose model corrects a baseline (``model.baseline``)."""

import re

import numpy as np
import pytest
import yaml
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

import otf
from otf.config.reader import config_of
from otf.errors import ConfigError
from otf.learning.baseline import EngineTerm, TermSettings
from otf.learning.model_file import read_model
from otf.postprocess.audit import Audit, audit_summary
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.drop_label import drop_label
from otf.runs.prior_mean import prior_mean
from otf.runs.replicas import run_replicas
from otf.runs.settings import changes
from tests.learning.test_baseline import MORSE

CHEAP = {"kind": "tblite", "method": "GFN1-xTB"}


def run_of(folder, *, steps=60, baseline=CHEAP, config=None, **dynamics):
    dynamics = {"ensemble": "csvr", "temperature_K": 300, "timestep_fs": 0.5, **dynamics}
    return otf.Run(
        molecule("CH3OH"),
        engine="tblite",
        directory=folder,
        steps=steps,
        config={"model": {"baseline": baseline}, **(config or {})},
        **dynamics,
    )


@pytest.mark.full
def test_fewer_labels_at_the_same_error(tmp_path):
    runs = [
        run_of(tmp_path / name, steps=1000, baseline=baseline)
        for name, baseline in (("alone", []), ("corrected", CHEAP))
    ]
    alone, corrected = [run.run() for run in runs]
    assert re.search(r"; baseline tblite: left-out error [\d.]+ meV/A, without", corrected.model)
    assert corrected.labels < alone.labels
    assert corrected.energy_conservation.problem == ""


def test_a_run_left_and_continued_is_the_same(tmp_path):
    whole, parts = run_of(tmp_path / "whole"), run_of(tmp_path / "parts")
    whole.run()
    for number, _ in enumerate(parts):
        if number == 3:
            break
    again = otf.Run.open(tmp_path / "parts")
    again.run()
    frames = [run.trajectory[-1] for run in (whole, again)]
    assert frames[0].positions.tobytes() == frames[1].positions.tobytes()
    assert frames[0].get_momenta().tobytes() == frames[1].get_momenta().tobytes()
    assert whole.summary.labels == again.summary.labels
    audited = audit_summary(list(Audit(again.directory, every=20).frames()))
    assert audited.force_mae_meV_A < 30.0


@pytest.mark.full
def test_a_prior_mean_is_trained_once_and_kept(tmp_path):
    term = {**CHEAP, "use": "prior_mean"}
    whole = run_of(tmp_path / "whole", steps=30, baseline=term)
    summary = whole.run()
    assert "baseline tblite as prior mean" in summary.model
    folder = tmp_path / "whole" / "baseline-0"
    trained = (folder / "model.h5").read_bytes()
    cheap, frame = EngineTerm(TermSettings("tblite", {"method": "GFN1-xTB"})), whole.trajectory[-1]
    prior = read_model(folder / "model.h5").predict(frame)
    assert np.abs(prior.forces - cheap.label(frame).forces).mean() < 0.02
    parts = run_of(tmp_path / "parts", steps=30, baseline=term)
    for number, _ in enumerate(parts):
        if number == 3:
            break
    again = otf.open_run(tmp_path / "parts")
    again.run()
    assert again.trajectory[-1].positions.tobytes() == frame.positions.tobytes()
    assert (folder / "model.h5").read_bytes() == trained
    loaded = whole.model  # needs neither the folder nor the engine
    found = loaded.model.predict(frame)
    assert np.abs(found.forces - forces_of(frame)).mean() < 0.03
    (term_of_file,) = loaded.model.baseline.terms
    assert term_of_file.label(frame).forces.tobytes() == prior.forces.tobytes()


def test_labels_of_a_prior_mean_are_not_computed_twice(tmp_path):
    term = {**CHEAP, "use": "prior_mean"}
    run = run_of(tmp_path / "run", steps=20, baseline=term)
    files, config, atoms = read_run(run.directory)
    engine = EngineTerm(TermSettings("tblite", {"method": "GFN1-xTB"}))
    model = prior_mean(config, files, atoms, 0, engine)
    labels = (tmp_path / "run" / "baseline-0" / "labels.extxyz").read_bytes()
    (tmp_path / "run" / "baseline-0" / "model.h5").unlink()
    again = prior_mean(config, files, atoms, 0, engine)
    assert (tmp_path / "run" / "baseline-0" / "labels.extxyz").read_bytes() == labels
    assert again.predict(atoms).forces.tobytes() == model.predict(atoms).forces.tobytes()


def test_the_model_of_a_run_with_another_engine_is_a_baseline(tmp_path):
    cheap = otf.Run(
        molecule("CH3OH"), engine={"kind": "tblite", "method": "GFN1-xTB"}, steps=60,
        directory=tmp_path / "cheap", temperature_K=300, timestep_fs=0.5, ensemble="csvr",
    )  # fmt: skip
    cheap.run()
    with pytest.raises(ConfigError, match=r"otf\.learning\.calculator:learned, keywords"):
        otf.Run(
            molecule("CH3OH"), engine="tblite", directory=tmp_path / "no", steps=1,
            learn_from=[cheap.directory],
        )  # fmt: skip
    calculator = "otf.learning.calculator:learned"
    term = {"kind": "ase", "calculator": calculator, "keywords": {"path": str(cheap.directory)}}
    run = run_of(tmp_path / "run", steps=40, baseline=term)
    assert "; baseline ase: left-out error" in run.run().model
    frame = run.trajectory[-1]
    learned = run.model.model.learned(frame).forces + cheap.model.model.predict(frame).forces
    assert np.abs(run.model.model.predict(frame).forces - learned).max() < 1e-9


@pytest.mark.parametrize("use", ["prior_mean", "respa"])
def test_a_model_of_an_engine_needs_a_run(use):
    with pytest.raises(ConfigError, match=rf"{use} needs the dynamics of a run"):
        otf.fit([molecule("CH4")], baseline={**CHEAP, "use": use})


@pytest.mark.full
def test_multiple_time_steps_left_and_continued_are_the_same(tmp_path):
    term = {**CHEAP, "use": "respa"}
    whole = run_of(tmp_path / "whole", steps=40, baseline=term)
    assert whole.run().energy_conservation.problem == ""
    measured = yaml.safe_load((tmp_path / "whole/baseline-0/outer_steps.yaml").read_text())
    assert [one["every"] for one in measured][:2] == [1, 2]
    parts = run_of(tmp_path / "parts", steps=40, baseline=term)
    for number, _ in enumerate(parts):
        if number == 3:
            break
    again = otf.open_run(tmp_path / "parts")
    again.run()
    frame = whole.trajectory[-1]
    assert again.trajectory[-1].positions.tobytes() == frame.positions.tobytes()
    assert again.trajectory[-1].get_momenta().tobytes() == frame.get_momenta().tobytes()
    forces = whole.model.model.predict(frame).forces  # the engine itself, at every structure
    assert np.abs(forces - forces_of(frame)).mean() < 0.03


def test_multiple_time_steps_have_conditions(tmp_path):
    term = {**CHEAP, "use": "respa"}
    with pytest.raises(ConfigError, match=r"respa is not available at constant pressure"):
        run_of(tmp_path / "npt", baseline=term, ensemble="npt")
    with pytest.raises(ConfigError, match=r"every has no meaning with use: exact"):
        run_of(tmp_path / "every", baseline={**CHEAP, "every": 3})


def test_another_baseline_needs_a_new_run(tmp_path):
    run = run_of(tmp_path / "run", steps=10)
    run.run()
    file = tmp_path / "run" / "config.resolved.yaml"
    file.write_text(file.read_text().replace("GFN1-xTB", "GFN2-xTB"))
    with pytest.raises(ConfigError, match=r"model\.baseline: was .*GFN1.*start a new run"):
        run.extend(10).run()


def test_a_label_can_be_dropped(tmp_path):
    run = run_of(tmp_path / "run", steps=30)
    run.run()
    drop_label(run.directory, 1, reason="of a test")
    frame = run.trajectory[-1].copy()
    assert np.abs(run.model.model.predict(frame).forces - forces_of(frame)).mean() < 0.03
    assert run.extend(10).run().steps == 40


@pytest.mark.full
def test_constant_pressure_hybrid_monte_carlo_and_replicas(tmp_path):
    copper = bulk("Cu", cubic=True) * (2, 2, 1)
    common = {"engine": EMT(), "force_target_meV_A": 20, "temperature_K": 300}
    common["config"] = {"model": {"baseline": MORSE}}
    pressed = otf.Run(
        copper, directory=tmp_path / "npt", ensemble="npt", steps=60, timestep_fs=2.0, **common
    ).run()
    assert pressed.energy_conservation.problem == ""
    sampled = otf.Run(
        copper, directory=tmp_path / "mc", ensemble="slhmc", steps=20, timestep_fs=2.0,
        burn_in=30, **common,
    ).run()  # fmt: skip
    assert sampled.sampling is not None
    copper.write(tmp_path / "cu.extxyz")
    config = config_of(
        {
            "system": {"structure": "cu.extxyz"},
            "engine": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
            "model": {"baseline": MORSE},
            "dynamics": {"steps": 20, "timestep_fs": 2.0},
            "replicas": {"count": 2},
        },
        tmp_path,
    )
    run, config, _ = read_run(create_run(config, tmp_path / "c.yaml", tmp_path / "both").path)
    assert run_replicas(run, config).labels > 0


def forces_of(frame):
    return EngineTerm(TermSettings("tblite", {})).label(frame).forces


def test_a_run_of_a_version_without_baselines_is_resumed():
    now = {"model.baseline": [], "dynamics.steps": 5}
    assert changes({"dynamics.steps": 5}, now, kind="tblite", source="c") == []
    with pytest.raises(ConfigError, match=r"model\.baseline: was not set"):
        changes({}, {"model.baseline": [CHEAP]}, kind="tblite", source="c")

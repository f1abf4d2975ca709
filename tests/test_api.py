"""Runs from Python: ``otf.Run``, ``open_run``, ``fit``, ``load_model``."""

import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from emt_calculators import Forgetful

import otf
from otf.errors import ConfigError, EngineError, FileError, RunError
from tests.cli.command import otf as command

SETTINGS = {
    "ensemble": "langevin",
    "temperature_K": 400,
    "timestep_fs": 2.0,
    "config": {"model": {"radial_three": 2, "l_max": 2, "order": 1}},
}


def copper():
    return bulk("Cu", cubic=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = otf.Run(
        copper(),
        engine=Forgetful(),
        directory=tmp_path_factory.mktemp("api") / "cu",
        steps=80,
        **SETTINGS,
    )
    return run, run.run()


def test_a_run_leaves_trajectory_labels_model_and_summary(whole):
    run, summary = whole
    assert summary.steps == 80
    assert summary.labels == len(run.labels) < 80
    assert len(run.trajectory) == 81
    last = run.trajectory[-1]
    assert last.info["step"] == 80
    assert [a.info["step"] for a in run.trajectory[10:4:-3]] == [10, 7]
    atoms = last.copy()
    atoms.calc = run.model
    np.testing.assert_allclose(atoms.get_forces(), last.get_forces(), atol=0.05)
    labelled = run.labels[0]
    atoms = labelled.copy()
    atoms.calc = EMT()
    np.testing.assert_allclose(labelled.get_forces(), atoms.get_forces(), atol=1e-12)


def test_stopped_opened_and_extended_it_is_the_same_to_the_last_bit(whole, tmp_path):
    run = otf.Run(copper(), engine=Forgetful(), directory=tmp_path / "cu", steps=50, **SETTINGS)
    for segment in run:
        if segment.state.step >= 5:
            break
    assert 5 <= run.summary.steps < 50
    assert run.model is not None
    opened = otf.open_run(tmp_path / "cu", engine=Forgetful()).extend(30)
    for _ in opened:
        pass
    assert opened.summary.steps == 80
    first, second = whole[0].trajectory, opened.trajectory
    for one, other in zip(first[::7], second[::7], strict=True):
        assert one.positions.tobytes() == other.positions.tobytes()


def test_the_command_line_and_python_run_the_same(tmp_path):
    config = tmp_path / "ch4.yaml"
    config.write_text(
        "system: {molecule: CH4}\nengine: {kind: tblite}\ndynamics: {steps: 40, seed: 3}\n"
    )
    command("run", config, "--output", tmp_path / "one")
    other = otf.Run(
        molecule("CH4"), engine="tblite", directory=tmp_path / "other", steps=40, seed=3
    )
    other.run()
    one = otf.open_run(tmp_path / "one").trajectory[-1]
    assert one.positions.tobytes() == other.trajectory[-1].positions.tobytes()
    assert otf.open_run(tmp_path / "one").extend(10).run().steps == 50


def test_the_notebooks_calculator_is_asked_for_again(whole):
    run, _ = whole
    with pytest.raises(EngineError, match=r"calculator object .*otf\.open_run"):
        otf.open_run(run.directory).extend(5).run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 3.0}, "dynamics.temperature: unknown key, did you mean 'temperature_K'"),
        ({"steps": -1}, "dynamics.steps"),
        ({"config": {"modle": {}}}, "modle: unknown key, did you mean 'model'"),
        ({"config": {"replicas": {"count": 2}}}, "replicas"),
        ({"config": {"engine": {"kind": "ase"}}}, "'engine' is an argument of its own"),
        (
            {"force_target_meV_A": 5, "config": {"policy": {"force_target_meV_A": 5.0}}},
            "given twice",
        ),
        ({"config": {"system": {"charge": 1}}}, "set them in the calculator"),
        ({"config": {"system": {"fixed_atoms": [9]}}}, "atom 9 is not there"),
        ({"ensemble": "npt", "engine": {"kind": "tblit"}}, "did you mean 'tblite'"),
    ],
)
def test_mistakes_are_named_before_anything_is_made(tmp_path, changes, message):
    options = {"engine": EMT(), "directory": tmp_path / "r", "steps": 5} | changes
    with pytest.raises((ConfigError, EngineError), match=message):
        otf.Run(copper(), **options)
    assert not (tmp_path / "r").exists()


def test_sections_of_the_system_are_used(tmp_path):
    run = otf.Run(
        copper(),
        engine=EMT(),
        directory=tmp_path / "r",
        steps=5,
        config={"system": {"fixed_atoms": [0], "masses": {"Cu": 100.0}}},
    )
    run.run()
    last = run.trajectory[-1]
    np.testing.assert_array_equal(last.positions[0], copper().positions[0])
    assert np.abs(last.positions[1:] - copper().positions[1:]).max() > 0.0
    assert last.get_masses().tolist() == [100.0] * 4


def test_a_label_budget_is_in_the_summary_and_the_model_stays(tmp_path):
    run = otf.Run(
        copper(), engine=EMT(), directory=tmp_path / "r", steps=50, config={"stop": {"labels": 3}}
    )
    assert run.run().stopped_by == "enough labels"
    energy = run.model.get_potential_energy(copper())
    assert run.run().stopped_by == "enough labels"  # nothing left to do
    assert run.model.get_potential_energy(copper()) == energy


def test_another_engine_is_refused(whole, tmp_path):
    with pytest.raises(RunError, match=r"its engine is emt_calculators:Forgetful, not .*EMT"):
        otf.open_run(whole[0].directory, engine=EMT())
    other = otf.Run(molecule("H2"), engine="tblite", directory=tmp_path / "h2", steps=2)
    with pytest.raises(RunError, match="its engine is tblite"):
        otf.open_run(other.directory, engine=EMT())


def test_a_directory_is_used_once(whole, tmp_path):
    run, _ = whole
    with pytest.raises(FileError, match="already exists"):
        otf.Run(copper(), engine=EMT(), directory=run.directory, steps=5)
    with pytest.raises(FileError, match="is not a run of otf"):
        otf.open_run(tmp_path)
    with pytest.raises(RunError, match="one step or more"):
        otf.open_run(run.directory, engine=Forgetful()).extend(0)


def test_fit_and_load_model(whole, tmp_path):
    run, _ = whole
    fitted = otf.fit(run.labels, run.labels[-3:], order=1, radial_three=2, l_max=2)
    assert fitted.train.force_mae < 0.05
    assert fitted.test.frames == 3
    atoms = run.labels[0]
    expected = fitted.model.get_potential_energy(atoms)
    assert expected == pytest.approx(atoms.get_potential_energy(), abs=0.1)
    assert otf.load_model(run.directory).get_potential_energy(atoms) == pytest.approx(
        expected, abs=0.1
    )
    with pytest.raises(ConfigError, match=r"model\.ordr: unknown key, did you mean 'order'"):
        otf.fit(run.labels, ordr=1)
    with pytest.raises(FileError, match="frame 0: has no energy"):
        otf.fit([copper()])


def test_importing_otf_is_quick():
    text = "import sys, otf; print('ase' in sys.modules, 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

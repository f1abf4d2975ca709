"""Models fitted anew to all labels of a run."""

import hashlib
import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

import otf
from otf.errors import FileError, RunError
from otf.postprocess.audit import Audit
from otf.postprocess.refit import refit
from tests.cli.command import otf as command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    run = otf.Run(
        atoms,
        engine={"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
        directory=tmp_path_factory.mktemp("runs") / "cu",
        steps=300,
        ensemble="csvr",
        temperature_K=900,
        timestep_fs=4.0,
        force_target_meV_A=5.0,
    )
    run.run()
    list(Audit(run.directory, every=40).frames())
    return run


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file()
    }


def test_the_model_of_all_labels_and_its_learning_curve(run):
    before = digests(run.directory)
    found = refit(run.directory)
    assert found.own > len(run.labels)  # those of the audit, too
    assert found.earlier == 0
    labels = [point.labels for point in found.curve]
    assert labels[-1] == found.own
    assert labels == sorted(labels)
    assert found.curve[-1].error < found.curve[0].error
    assert digests(run.directory) == before
    errors = []
    for frame in run.trajectory[5::25]:
        predicted = found.trainer.predict(frame).forces
        frame.calc = EMT()
        errors.append(np.abs(predicted - frame.get_forces()).mean())
    assert np.mean(errors) < 2.0 * found.curve[-1].error


def test_command(run, tmp_path):
    output = tmp_path / "m.h5"
    done = command("refit", run.directory, "--output", output)
    assert "left out    force MAE" in done.stdout, done.stderr
    assert "with twice the labels" in done.stdout
    assert otf.load_model(output).model.theta.any()
    again = command("refit", run.directory, "--output", output, rc=2)
    assert "--force" in again.stderr
    mine = command("refit", run.directory, "--output", run.directory / "model.h5", rc=2)
    assert "is a file of the run" in mine.stderr
    found = json.loads(command("refit", run.directory, "--json").stdout)
    assert found["output"].endswith("cu/refit.h5")
    assert (run.directory / "refit.h5").exists()
    assert len(found["learning_curve_meV_A"]) >= 2


def test_what_cannot_be_fitted_is_said(run, tmp_path):
    with pytest.raises(FileError, match="is not a run"):
        refit(tmp_path)
    short = otf.Run(
        bulk("Cu", cubic=True), engine=EMT(), directory=tmp_path / "short", steps=1, timestep_fs=1.0
    )
    short.run()
    with pytest.raises(RunError, match="has 2 labels; a model needs 3 or more"):
        refit(short.directory)

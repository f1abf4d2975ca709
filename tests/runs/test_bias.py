"""Runs with a bias: what is learned has no part of it, analyses take it out."""

import numpy as np
import pytest
from ase.build import molecule
from tblite.ase import TBLite

import otf as package
from otf.io.labels import read_labels
from otf.io.trajectory import read_trajectory
from otf.runs.checkpoint import read_checkpoint
from tests.cli.command import otf

CONFIG = """\
system: {molecule: H2O}
engine: {kind: tblite}
dynamics:
  ensemble: csvr
  steps: 400
  timestep_fs: 0.5
  bias:
    - {kind: walls, distance: [1, 2], above_A: 1.6, constant_eV_A2: 20}
    - kind: metadynamics
      along: [{angle: [1, 0, 2], width_degrees: 4}]
      height_meV: 20
      every_fs: 10
model: {radial_two: 8, radial_three: 2, l_max: 2}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bias")
    (folder / "water.yaml").write_text(CONFIG)
    otf("run", folder / "water.yaml", "--output", folder / "water")
    return folder / "water"


def test_labels_model_and_frames_have_no_part_of_the_bias(run):
    trajectory = read_trajectory(run / "trajectory.h5")
    engine = TBLite(method="GFN2-xTB", verbosity=0)
    labels = read_labels(run / "labels.extxyz")
    label = labels[-1]
    atoms = label.atoms.copy()
    atoms.calc = engine
    np.testing.assert_allclose(atoms.get_forces(), label.labels.forces, atol=1e-3)  # of SCF
    frame = trajectory.frame(len(trajectory) - 1)
    frame.calc = engine
    pushed = read_checkpoint(run / "checkpoint.h5").state.dynamics.hills
    assert len(pushed) == 20
    assert np.abs(frame.get_forces() - trajectory.forces[-1]).mean() < 0.04
    work, conserved = trajectory.work, trajectory.conserved_energy
    assert np.ptp(work) > 0.05
    assert conserved.std() < 0.1 * np.ptp(work)


def test_analyses_say_that_averages_are_biased_and_free_energies_are_not(run):
    note = "averages with the bias of the run"
    assert note in otf("analyse", "bonds", run).stdout
    found = otf("analyse", "free-energy", run, "--bins", 5).stdout
    assert note not in found
    assert "hills = 20" in found
    assert "angle_1_0_2_degrees free_energy_meV" in found
    other = otf("analyse", "free-energy", run, "--along", "distance 1 2").stdout
    assert "distance_1_2_A free_energy_meV" in other
    series = otf("analyse", "variable", run, "--along", "angle 1 0 2").stdout.splitlines()
    rows = [line.split() for line in series if not line.startswith("#")]
    values = np.array([float(row[1]) for row in rows])
    expected = [frame.get_angle(1, 0, 2) for frame in package.open_run(run).trajectory]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    for wrong in ("angle 1 0", "anlge 1 0 2"):
        refused = otf("analyse", "variable", run, "--along", wrong, rc=2).stderr
        assert f"'{wrong}' is none of" in refused
    wrong = otf("analyse", "variable", run, "--along", "angle 1 0 3", rc=1).stderr
    assert "the atoms are numbered from 0 to 2" in wrong
    assert "takes one run" in otf("analyse", "free-energy", run, run, rc=2).stderr


def test_the_log_warns_of_hills_that_heat_the_variable(run):
    log = (run / "run.log").read_text()
    assert "hills add up to 2000 meV/ps" in log
    assert "remove_rotation: true" in log
    report = (run / "report.html").read_text()
    assert "walls of distance 1-2, metadynamics of angle 1-0-2" in report


def test_atoms_that_are_not_there_are_named_before_the_first_label(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.replace("[1, 0, 2]", "[1, 0, 3]"))
    refused = otf("run", config, "--output", tmp_path / "run", rc=1).stderr
    assert (
        "dynamics.bias.1: angle of atoms [1, 0, 3]: the atoms are numbered from 0 to 2" in refused
    )
    line = molecule("CO2")
    line.write(tmp_path / "line.xyz")
    config.write_text(
        "system: {structure: line.xyz}\nengine: {kind: tblite}\ndynamics: {steps: 10, bias: "
        "{kind: restraint, torsion: [1, 0, 2, 1], at_degrees: 0, constant_eV_rad2: 1}}\n"
    )
    assert "an atom is named twice" in otf("run", config, rc=1).stderr

"""Biases by PLUMED, where it is installed: forces, files, resumption, and what is refused."""

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from otf.config import read_config
from otf.config.dynamics import Dynamics
from otf.driver.records import Segment
from otf.dynamics.bias import Bias, Pushed, Walls
from otf.dynamics.collective_variables import CollectiveVariable
from otf.errors import ConfigError, FileError
from otf.io.labels import read_labels
from otf.io.trajectory import read_trajectory
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.plumed import PlumedBias
from otf.runs.plumed_input import keep_input, paces, problem_of, read_by
from otf.runs.session import open_session, run_session
from otf.units import KJ_PER_MOL


def _is_installed() -> bool:
    try:
        module = importlib.import_module("plumed")
        module.Plumed(kernel=os.environ.get("PLUMED_KERNEL")).finalize()
    except (ImportError, RuntimeError):
        return False
    return True


def installed(test):
    """Mark a test that needs PLUMED."""
    missing = pytest.mark.skipif(not _is_installed(), reason="PLUMED is not installed")
    return pytest.mark.full(missing(test))


HILLS = """\
# the angle of water, which is not cut short
a: ANGLE ATOMS=2,1,3
m: METAD ARG=a SIGMA=0.05 HEIGHT=0.5 PACE=20 FILE=HILLS
PRINT ARG=a,m.bias STRIDE=10 FILE=COLVAR
"""
CONFIG = """\
system: {molecule: H2O}
engine: {kind: tblite}
dynamics: {ensemble: langevin, steps: STEPS, timestep_fs: 0.5, plumed: plumed.dat}
policy: {force_target_meV_A: 5, gap_max: 37}
"""


def make(folder: Path, name: str = "run", *, text: str = HILLS, steps: int = 400) -> Path:
    (folder / "plumed.dat").write_text(text)
    source = folder / f"{name}.yaml"
    source.write_text(CONFIG.replace("STEPS", str(steps)))
    return create_run(read_config(source), source, folder / name).path


@installed
def test_a_wall_is_the_one_of_dynamics_bias(tmp_path):
    rng = np.random.default_rng(1)
    atoms = Atoms("CH3", rng.uniform(0.0, 5.0, (4, 3)), cell=6.0 * np.eye(3), pbc=True)
    atoms.cell[0, 1] = 1.0
    (tmp_path / "in.dat").write_text("d: DISTANCE ATOMS=1,3\nUPPER_WALLS ARG=d AT=0.1 KAPPA=500\n")
    keep_input(tmp_path / "in.dat", tmp_path / "plumed")
    dynamics = Dynamics(ensemble="nve", timestep_fs=1.0, steps=1)
    theirs = PlumedBias(tmp_path / "plumed", dynamics, n_atoms=4)
    # KAPPA/2 is per nm^2
    constant = 2.0 * 500.0 * KJ_PER_MOL / 100.0
    ours = Bias([Walls((CollectiveVariable("distance", (0, 2)),), -np.inf, 1.0, constant)])
    acting = Pushed(rng.normal(size=(4, 3)), rng.normal(size=(3, 3)))
    one, other = (bias.begin(acting, atoms, 0) for bias in (theirs, ours))
    assert np.abs(other.forces - acting.forces).max() > 0.1
    np.testing.assert_allclose(one.forces, other.forces, rtol=1e-9)
    np.testing.assert_allclose(one.stress, other.stress, rtol=1e-9)
    atoms.positions[2] += 0.1
    for bias in (theirs, ours):
        bias.moved(acting, atoms, 1)
    assert theirs.work == pytest.approx(ours.work, rel=1e-9)
    theirs.close()


@installed
@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, True, False)])
def test_distances_are_those_of_the_nearest_images(tmp_path, pbc):
    cell = np.diag([5.0, 6.0, 0.0 if not pbc[2] else 7.0])
    atoms = Atoms("HH", [(0.5, 0.5, 0.5), (4.6, 5.6, 6.0)], cell=cell, pbc=pbc)
    (tmp_path / "in.dat").write_text("d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=0.0 KAPPA=100\n")
    keep_input(tmp_path / "in.dat", tmp_path / "plumed")
    dynamics = Dynamics(ensemble="nve", timestep_fs=1.0, steps=1)
    bias = PlumedBias(tmp_path / "plumed", dynamics, n_atoms=2)
    pushed = bias.begin(Pushed(np.zeros((2, 3)), None), atoms, 0)
    expected = KJ_PER_MOL * atoms.get_distance(0, 1, mic=True, vector=True)
    np.testing.assert_allclose(pushed.forces[0], expected, rtol=1e-6)
    bias.close()


@installed
def test_files_are_those_of_one_run_and_the_energy_is_conserved(tmp_path):
    path = make(tmp_path)
    summary = run_session(*read_run(path))
    hills = [line for line in (path / "plumed/HILLS").read_text().splitlines() if line[0] != "#"]
    times = [float(line.split()[0]) for line in hills]
    np.testing.assert_allclose(times, 0.01 * np.arange(1, 21))
    printed = (path / "plumed/COLVAR").read_text().splitlines()
    assert sum(line.startswith("#! FIELDS") for line in printed) == 1
    rows = np.array([line.split() for line in printed if line[0] != "#"], float)
    np.testing.assert_allclose(rows[:, 0], 0.005 * np.arange(41))
    trajectory = read_trajectory(path / "trajectory.h5")
    angles = [trajectory.frame(k).get_angle(1, 0, 2) for k in range(0, 401, 10)]
    np.testing.assert_allclose(rows[:, 1], np.radians(angles), atol=1e-5)
    assert abs(summary.energy_conservation.conserved_scatter_meV) < 5
    assert abs(summary.energy_conservation.work_meV) > 10


@installed
def test_an_input_without_output_leaves_its_log(tmp_path):
    path = make(tmp_path, text="a: ANGLE ATOMS=2,1,3\nRESTRAINT ARG=a AT=1.8 KAPPA=10\n", steps=60)
    run_session(*read_run(path))
    assert {item.name for item in (path / "plumed").iterdir()} == {"plumed.dat", "plumed.log"}
    assert "RESTRAINT" in (path / "plumed/plumed.log").read_text()


@installed
def test_left_and_resumed_after_each_segment_it_is_the_same(tmp_path):
    whole, path = make(tmp_path, "whole"), make(tmp_path, "left")
    run_session(*read_run(whole))
    left, found = 0, object()
    while found is not None:
        with open_session(*read_run(path)) as session:
            records = session.records()
            found = next((record for record in records if isinstance(record, Segment)), None)
            if found is not None and left % 3 == 0:  # as if killed during the next segment
                next(records, None)
            records.close()
        left += found is not None
    assert left > 5
    one, other = (read_trajectory(p / "trajectory.h5") for p in (path, whole))
    assert one.positions.tobytes() == other.positions.tobytes()
    for name in ("HILLS", "COLVAR"):
        assert (path / "plumed" / name).read_bytes() == (whole / "plumed" / name).read_bytes()
    energies = [[s.labels.energy for s in read_labels(p / "labels.extxyz")] for p in (path, whole)]
    assert energies[0] == energies[1]


@installed
def test_lost_hills_are_noticed(tmp_path):
    path = make(tmp_path, steps=60)
    run_session(*read_run(path))
    (path / "plumed/HILLS").write_text("")
    run, config, atoms = read_run(path)
    config = config.model_copy(
        update={"dynamics": config.dynamics.model_copy(update={"steps": 80})}
    )
    with pytest.raises(FileError, match=r"has fewer than the .* bytes that belong to the check"):
        run_session(run, config, atoms)


@installed
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d: DISTANCE ATOMS=1,9\n", "plumed.dat: .*atom 9 out of range"),
        ("d: DISTNCE ATOMS=1,2\n", "plumed.dat: .*cannot understand line"),
        ("RESTART\n", "RESTART: leave it out"),
        (HILLS.replace("FILE=HILLS", "GRID_WFILE=g GRID_WSTRIDE=1"), "GRID_WFILE cannot be"),
        ("MOLINFO STRUCTURE=../water.pdb\n", "put it beside the input"),
        ("INCLUDE FILE=plumed.dat\nRESTART\n", "RESTART: leave it out"),
        ("e: ENERGY\nRESTRAINT ARG=e AT=0 KAPPA=1\n", "calculating e"),
    ],
)
def test_what_it_cannot_use_is_refused_before_the_first_label(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        make(tmp_path, text=text)
    assert not (tmp_path / "run").exists()


@installed
def test_files_that_the_input_reads_are_kept(tmp_path):
    (tmp_path / "variables.dat").write_text("a: ANGLE ATOMS=2,1,3\n")
    text = HILLS.replace("a: ANGLE ATOMS=2,1,3", "INCLUDE FILE=variables.dat")
    path = make(tmp_path, text=text, steps=40)
    (tmp_path / "variables.dat").unlink()
    assert run_session(*read_run(path)).steps == 40


def test_inputs_are_read_with_what_they_include(tmp_path):
    path = tmp_path / "plumed.dat"
    path.write_text(
        "INCLUDE FILE=more.dat  # PACE=3\n"
        "m: METAD ARG=a SIGMA=0.1 HEIGHT=1 PACE=500 FILE=HILLS\n"
        "x: EXTERNAL ARG=a FILE=grid.dat\nr: RMSD REFERENCE=a.pdb TYPE=OPTIMAL\n"
        "s: RMSD REFERENCE=/elsewhere/b.pdb TYPE=OPTIMAL\n"
    )
    (tmp_path / "more.dat").write_text(
        "o: OPES_METAD ARG=a PACE=10 BARRIER=5\nINCLUDE FILE=more.dat"
    )
    assert paces(path) == {500, 10}
    assert read_by(path) == {"more.dat", "grid.dat", "a.pdb"}
    assert problem_of(path) == ""
    (tmp_path / "more.dat").write_text("e: EXTENDED_LAGRANGIAN ARG=a KAPPA=1")
    assert "EXTENDED_LAGRANGIAN" in problem_of(path)


def test_without_plumed_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PLUMED_KERNEL", "/nowhere/libplumedKernel.so")
    with pytest.raises(ConfigError, match=r"PLUMED is missing .*conda-forge py-plumed"):
        make(tmp_path)


def test_bias_and_plumed_exclude_each_other():
    walls = {"kind": "walls", "distance": [0, 1], "below_A": 3.0, "constant_eV_A2": 1.0}
    with pytest.raises(ValueError, match="give bias or plumed"):
        Dynamics(ensemble="nve", steps=1, bias=[walls], plumed="plumed.dat")

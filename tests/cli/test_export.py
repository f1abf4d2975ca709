"""``otf export``, ``list`` and ``status``; exported files read by other programs."""

import fcntl
import importlib
import warnings

import ase.build
import ase.db
import ase.io
import numpy as np
import pytest
from ase import units

from otf.io.labels import read_labels
from otf.io.read_frames import read_frames
from otf.io.trajectory import read_trajectory
from tests.cli.command import otf

CONFIG = """\
system: {bulk: {name: Al, a_A: 4.05}, repeat: [2, 2, 2]}
engine: {kind: ase, calculator: "ase.calculators.emt:EMT"}
dynamics: {ensemble: csvr, steps: 60, timestep_fs: 2.0}
model: {stress_noise_GPa: 0.1}
policy: {force_target_meV_A: 20}
"""


def imported(name: str):
    """A package that reads our files; its own dependencies warn when they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    (folder / "al.yaml").write_text(CONFIG)
    otf("run", folder / "al.yaml", "--output", folder / "runs/al")
    return folder / "runs/al"


@pytest.fixture(scope="module")
def trajectory(run):
    return read_trajectory(run / "trajectory.h5")


@pytest.mark.parametrize("name", ["out.extxyz", "out.traj", "out.db", "XDATCAR_out"])
def test_frames_that_ase_reads(run, trajectory, tmp_path, name):
    out = tmp_path / name
    said = otf("export", run, out, "--from", 20, "--to", 100, "--every", 4).stdout
    assert said == f"11 frames in {out}\n"
    if name.endswith(".db"):
        read = [row.toatoms() for row in ase.db.connect(out).select()]
    else:
        read = ase.io.read(out, ":", format="vasp-xdatcar" if "XDATCAR" in name else None)
    assert len(read) == 11
    kept = np.arange(10, 51, 4)
    for atoms, i in zip(read, kept):
        apart = atoms.positions - trajectory.positions[i]
        apart -= np.round(apart @ np.linalg.inv(trajectory.cells[i])) @ trajectory.cells[i]
        np.testing.assert_allclose(apart, 0.0, atol=1e-5)
    if "XDATCAR" not in name:
        np.testing.assert_allclose(
            read[0].get_velocities() * units.fs, trajectory.velocities[10], atol=1e-9
        )
        assert read[0].get_potential_energy() == pytest.approx(trajectory.potential_energy[10])


@pytest.mark.full
def test_dump_that_mdanalysis_and_ase_read(run, trajectory, tmp_path):
    MDAnalysis = imported("MDAnalysis")
    out = tmp_path / "out.lammpstrj"
    otf("export", run, out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(
            str(out), format="LAMMPSDUMP", lammps_coordinate_convention="unwrapped"
        )
        assert len(universe.trajectory) == 61
        universe.trajectory[30]
        theirs = universe.atoms.positions.astype(float)
        box = universe.dimensions
    ours = trajectory.frame(30)
    pairs = [(0, 1), (2, 7), (3, 5)]
    for i, j in pairs:  # the cell is rotated: distances are unchanged
        assert np.linalg.norm(theirs[i] - theirs[j]) == pytest.approx(
            np.linalg.norm(ours.positions[i] - ours.positions[j]), abs=1e-4
        )
    np.testing.assert_allclose(box, ours.cell.cellpar(), atol=1e-3)
    read = ase.io.read(out, index=30, format="lammps-dump-text", specorder=["Al"])
    speed = np.linalg.norm(read.get_velocities() * units.fs, axis=1)
    np.testing.assert_allclose(speed, np.linalg.norm(trajectory.velocities[30], axis=1), rtol=1e-5)


@pytest.mark.full
def test_mdanalysis_opens_the_trajectory_as_it_is(run, trajectory):
    MDAnalysis = imported("MDAnalysis")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe.empty(8, trajectory=False)
        universe.load_new(str(run / "trajectory.h5"), format="H5MD")
        assert len(universe.trajectory) == 61
        step = universe.trajectory[7]
        np.testing.assert_allclose(step.positions, trajectory.positions[7], atol=1e-4)
        assert step.time == pytest.approx(0.014)  # ps
        np.testing.assert_allclose(
            step.forces, trajectory.forces[7] / (units.kJ / units.mol), rtol=1e-4, atol=1e-3
        )


@pytest.mark.full
def test_znh5md_opens_the_trajectory_as_it_is(run, trajectory):
    znh5md = imported("znh5md")
    read = znh5md.IO(run / "trajectory.h5")
    assert len(read) == 61
    atoms = read[7]
    np.testing.assert_array_equal(atoms.numbers, trajectory.atoms.numbers)
    np.testing.assert_allclose(atoms.positions, trajectory.positions[7])
    np.testing.assert_allclose(atoms.cell.array, trajectory.cells[7])
    assert atoms.pbc.all()


@pytest.mark.full
def test_a_part_of_the_frames_as_h5md(run, trajectory, tmp_path):
    znh5md = imported("znh5md")
    out = tmp_path / "part.h5"
    otf("export", run, out, "--from", 20, "--to", 100, "--every", 4)
    part = read_trajectory(out)
    kept = np.arange(10, 51, 4)
    np.testing.assert_array_equal(part.time_fs, trajectory.time_fs[kept])
    np.testing.assert_array_equal(part.positions, trajectory.positions[kept])
    np.testing.assert_array_equal(part.velocities, trajectory.velocities[kept])
    np.testing.assert_array_equal(part.cells, trajectory.cells[kept])
    np.testing.assert_array_equal(part.potential_energy, trajectory.potential_energy[kept])
    np.testing.assert_array_equal(znh5md.IO(out)[3].positions, trajectory.positions[22])
    again = otf("analyse", "rdf", out).stdout
    assert again == otf("analyse", "rdf", run, "--from", 20, "--to", 100, "--every", 4).stdout


@pytest.mark.full
def test_a_molecule_without_a_cell_is_read_too(tmp_path):
    znh5md = imported("znh5md")
    MDAnalysis = imported("MDAnalysis")
    (tmp_path / "c.yaml").write_text(
        "{system: {molecule: CH4}, engine: {kind: tblite}, dynamics: {steps: 10}}"
    )
    otf("run", tmp_path / "c.yaml", "--output", tmp_path / "run")
    ours = read_trajectory(tmp_path / "run/trajectory.h5")
    theirs = znh5md.IO(tmp_path / "run/trajectory.h5")[5]
    np.testing.assert_allclose(theirs.positions, ours.positions[5])
    assert not theirs.pbc.any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe.empty(5, trajectory=False)
        universe.load_new(str(tmp_path / "run/trajectory.h5"), format="H5MD")
        step = universe.trajectory[5]
    np.testing.assert_allclose(step.positions, ours.positions[5], atol=1e-5)
    assert step.dimensions is None


def test_labels_for_other_potentials(run, tmp_path):
    labels = read_labels(run / "labels.extxyz")
    for kind, energy, forces in (
        ("mace", "REF_energy", "REF_forces"),
        ("gap", "dft_energy", "dft_force"),
    ):
        otf("export", run, tmp_path / f"{kind}.xyz", "--as", kind)
        read = ase.io.read(tmp_path / f"{kind}.xyz", ":")
        assert len(read) == len(labels)
        for atoms, stored in zip(read, labels):
            assert atoms.info[energy] == pytest.approx(stored.labels.energy, abs=1e-7)
            np.testing.assert_allclose(atoms.arrays[forces], stored.labels.forces, atol=1e-7)
    otf("export", run, tmp_path / "deepmd", "--as", "deepmd")
    folder = tmp_path / "deepmd/set.000"
    n = len(labels)
    shapes = {p.stem: np.load(p).shape for p in folder.iterdir()}
    assert shapes == {
        "coord": (n, 24), "force": (n, 24), "energy": (n,), "box": (n, 9), "virial": (n, 9)
    }  # fmt: skip
    assert (tmp_path / "deepmd/type_map.raw").read_text() == "Al\n"
    assert (tmp_path / "deepmd/type.raw").read_text().split() == ["0"] * 8
    virial = -labels[0].labels.stress * labels[0].atoms.get_volume()
    np.testing.assert_allclose(np.load(folder / "virial.npy")[0], virial.ravel())


def test_a_slab_keeps_its_periodic_directions(tmp_path):
    slab = ase.build.fcc111("Al", (2, 2, 2), vacuum=6.0)
    slab.pbc = (True, True, False)
    slab.info.clear()
    ase.io.write(tmp_path / "slab.xyz", slab)
    flat = slab.copy()
    flat.cell[2] = 0.0
    ase.io.write(tmp_path / "flat.traj", flat)
    (tmp_path / "c.yaml").write_text(
        "{system: {structure: slab.xyz}, dynamics: {steps: 5}, "
        "engine: {kind: ase, calculator: 'ase.calculators.emt:EMT'}}"
    )
    otf("run", tmp_path / "c.yaml", "--output", tmp_path / "run")
    otf("export", tmp_path / "run", tmp_path / "dp", "--as", "deepmd")
    assert np.load(tmp_path / "dp/set.000/box.npy").shape[1] == 9
    assert not (tmp_path / "dp/nopbc").exists()
    for name in ("XDATCAR", "a.lammpstrj"):
        refused = otf("export", tmp_path / "flat.traj", tmp_path / name, rc=1).stderr
        assert "needs three cell vectors" in refused


def test_stages_stay_with_exported_frames(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "{system: {molecule: CH4}, engine: {kind: tblite}, dynamics: {stages: ["
        "{name: hot, ensemble: langevin, steps: 60, temperature_K: 900}, "
        "{name: cold, ensemble: langevin, steps: 60, temperature_K: 50}]}}"
    )
    otf("run", tmp_path / "c.yaml", "--output", tmp_path / "run")
    otf("export", tmp_path / "run", tmp_path / "all.h5")
    for stage in ([], ["--stage", "hot"]):
        expected = otf("analyse", "temperature", tmp_path / "run", *stage).stdout
        assert otf("analyse", "temperature", tmp_path / "all.h5", *stage).stdout == expected
    otf("export", tmp_path / "all.h5", tmp_path / "all.extxyz")
    otf("export", tmp_path / "all.extxyz", tmp_path / "again.h5")
    assert "# time_fs" in otf("analyse", "energy", tmp_path / "again.h5").stdout


def test_nothing_is_overwritten_and_mistakes_are_named(run, tmp_path):
    out = tmp_path / "a.extxyz"
    out.write_text("mine")
    assert "exists; choose another name, or add --force" in otf("export", run, out, rc=2).stderr
    assert out.read_text() == "mine"
    assert "give --as with one of" in otf("export", run, tmp_path / "a.foo", rc=2).stderr
    said = otf("export", tmp_path, tmp_path / "a", "--as", "mace", rc=1).stderr
    assert "is not a run of otf" in said


def test_list_and_status(run, tmp_path):
    folder = run.parents[1]
    text = otf("list", folder).stdout
    assert "al  finished" in text
    assert "60/60 steps" in text
    assert text.rstrip().endswith("Al8 by ase")
    assert otf("list", tmp_path).stdout == f"no runs in {tmp_path}\n"
    screen = otf("status", run).stdout
    assert f"{run}: finished; Al8 by ase" in screen
    assert "step 60 of 60, 0.12 ps" in screen
    assert "force MAE" in screen
    assert "is not a run of otf" in otf("status", tmp_path, rc=1).stderr
    with (run / ".lock").open("rb") as stream:  # as a running process holds it
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert f"{run}: running" in otf("status", run).stdout


def test_a_damaged_run_is_listed_as_such(run, tmp_path):
    import shutil

    shutil.copytree(run, tmp_path / "broken")
    (tmp_path / "broken/checkpoint.h5").write_bytes(b"nothing")
    assert "damaged" in otf("list", tmp_path).stdout
    assert "checkpoint.h5" in otf("status", tmp_path / "broken").stdout
    (tmp_path / "broken/checkpoint.h5").unlink()
    assert "not begun" in otf("status", tmp_path / "broken").stdout


def test_labels_of_a_time_interval_are_exported_and_fitted(run, tmp_path):
    steps = [a.info["step"] for a in ase.io.read(run / "labels.extxyz", ":")]
    for kind, energy in (("mace", "REF_energy"), ("gap", "dft_energy")):
        out = tmp_path / f"{kind}.extxyz"
        otf("export", run, out, "--as", kind, "--from", 2.0, "--to", 100.0, "--every", 2)
        written = ase.io.read(out, ":")
        assert len(written) == len([s for s in steps if 2.0 <= 2.0 * s <= 100.0][::2])
        assert energy in written[0].info
        assert "train" in otf("fit", out).stdout  # by the names that were written
    refused = otf("export", run, tmp_path / "no.extxyz", "--as", "mace", "--from", 1e6, rc=1)
    assert "no label is between --from and --to" in refused.stderr


def test_temperatures_stay_with_exported_frames(run, trajectory, tmp_path):
    out = tmp_path / "out.extxyz"
    otf("export", run, out)
    read = read_frames(out)
    np.testing.assert_allclose(read.series["temperature_K"], trajectory.temperature, rtol=1e-8)
    plain = ase.io.read(out, ":")
    for atoms in plain:
        del atoms.info["temperature_K"]
    ase.io.write(tmp_path / "plain.extxyz", plain)
    found = read_frames(tmp_path / "plain.extxyz").series["temperature_K"]
    n = len(plain[0])
    np.testing.assert_allclose(found * n, trajectory.temperature * (n - 1), rtol=1e-6)

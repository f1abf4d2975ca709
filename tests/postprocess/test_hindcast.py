"""Fitting and hindcasting recorded structures through the functions behind the commands."""

import json

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin

from otf.config.reader import read_learning
from otf.config.schema import Model
from otf.errors import FileError
from otf.postprocess.fit import fit
from otf.postprocess.hindcast import hindcast_file, hindcast_summary
from tests.cli.command import otf

SMALL = Model(radial_three=2, l_max=2)

CONFIG = """\
system:
  structure: start.xyz
engine:
  kind: ase
  calculator: ase.calculators.emt:EMT
dynamics:
  steps: 300
  timestep_fs: 2.0
model: {{radial_three: 2, l_max: 2}}
policy: {policy}
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A real EMT trajectory, and a config beside it."""
    folder = tmp_path_factory.mktemp("recorded")
    atoms = bulk("Al", cubic=True)
    atoms.calc = EMT()
    rng = np.random.default_rng(0)
    atoms.set_momenta(rng.normal(size=(4, 3)) * np.sqrt(27 * 300 * units.kB))
    dynamics = Langevin(atoms, 2 * units.fs, temperature_K=300, friction=0.02, fixcm=False, rng=rng)
    frames = []
    for _ in range(300):
        dynamics.run(1)
        frames.append(atoms.copy())
        frames[-1].calc = EMT()
        frames[-1].get_forces()
    ase.io.write(folder / "recorded.extxyz", frames)
    ase.io.write(folder / "start.xyz", frames[0])
    return folder


def summary_of(recorded, policy):
    (recorded / "config.yaml").write_text(CONFIG.format(policy=policy))
    learning = read_learning(recorded / "config.yaml")
    frames = list(hindcast_file(recorded / "recorded.extxyz", learning))
    return frames, hindcast_summary(frames)


def test_hindcast_follows_the_fixed_schedule(recorded):
    frames, summary = summary_of(recorded, "{kind: fixed, train_fs: 20, every: 25}")
    assert [f.index for f in frames if f.labelled] == [*range(11), *range(35, 300, 25), 299]
    assert summary["labels"] == 23
    assert summary["predicted_frames"] == 277
    assert set(summary["force_mae_meV_A_by_steps_since_label"]) == {
        "1-1", "2-4", "5-9", "10-19", "20-49",
    }  # fmt: skip
    assert [f.since_label for f in frames[11:37]] == [*range(1, 26), 1]


def test_hindcast_adapts_to_the_target(recorded):
    loose, tight = (
        summary_of(recorded, f"{{force_target_meV_A: {target}, gap_max: 60}}")[1]
        for target in (30, 0.5)
    )
    assert loose["labels"] < tight["labels"] < 250
    assert tight["force_mae_meV_A"] < 0.5
    assert loose["force_mae_meV_A"] < 3


def test_hindcast_where_nothing_is_predicted(recorded):
    _, summary = summary_of(recorded, "{force_target_meV_A: 1e-9, unreachable: engine}")
    assert summary["labels"] == 300
    assert summary["predicted_frames"] == 0


def test_fit_learns_and_generalises(recorded, tmp_path):
    frames = ase.io.read(recorded / "recorded.extxyz", ":")
    ase.io.write(tmp_path / "train.extxyz", frames[:200:4])
    ase.io.write(tmp_path / "test.extxyz", frames[200::10])
    report = fit(tmp_path / "train.extxyz", tmp_path / "test.extxyz", SMALL)
    size = np.mean([np.abs(a.get_forces()).mean() for a in frames])
    assert report.train.frames == 50
    assert report.test.frames == 10
    assert report.test.force_mae < 0.03 * size
    assert report.test.energy_mae < 1e-3


def test_fit_does_not_depend_on_the_order_of_the_file(recorded, tmp_path):
    frames = ase.io.read(recorded / "recorded.extxyz", ":")[:100:5]
    errors = []
    for name, chosen in (("a", frames), ("b", frames[::-1])):
        ase.io.write(tmp_path / f"{name}.extxyz", chosen)
        errors.append(fit(tmp_path / f"{name}.extxyz", model=SMALL).train.force_mae)
    assert errors[0] == pytest.approx(errors[1], rel=0.05)


def test_structures_of_several_sizes_and_species_are_fitted_together(tmp_path):
    frames = []
    for i, (name, repeat) in enumerate([("Cu", 1), ("Ag", 1), ("Cu", 2)] * 5):
        atoms = bulk(name, cubic=True) * (repeat, 1, 1)
        atoms.rattle(0.05, seed=i)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    ase.io.write(tmp_path / "mixed.extxyz", frames)
    report = fit(tmp_path / "mixed.extxyz", model=SMALL)
    assert report.train.energy_mae < 5e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("", "cannot be read|holds no structures"),
        ("2\n\nH 0 0 0\nH 0 0 0.7\n", "frame 0: has no energy"),
        ("1\nenergy=1.0\nH 0 0 0\n", "frame 0: has no forces"),
        (
            "1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=1.0\nH 0 0 0 nan 0 0\n",
            "frame 0: forces are not finite",
        ),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    path = tmp_path / "train.extxyz"
    if text is not None:
        path.write_text(text)
    with pytest.raises(FileError, match=message):
        fit(path, model=SMALL)


def test_changing_atoms_are_not_a_trajectory(recorded, tmp_path):
    frames = ase.io.read(recorded / "recorded.extxyz", ":3")
    frames[2].numbers[0] = 29
    ase.io.write(tmp_path / "t.extxyz", [a.copy() for a in frames])
    (recorded / "config.yaml").write_text(CONFIG.format(policy="{}"))
    with pytest.raises(FileError, match="not a trajectory"):
        list(hindcast_file(tmp_path / "t.extxyz", read_learning(recorded / "config.yaml")))


def renamed(source, target, prefix):
    """The same frames with energy and forces under names with a prefix."""
    frames = ase.io.read(source, ":")
    for atoms in frames:
        atoms.info[f"{prefix}energy"] = atoms.get_potential_energy()
        atoms.arrays[f"{prefix}forces"] = atoms.get_forces()
        atoms.calc = None
    ase.io.write(target, frames)


def test_hindcast_needs_no_configuration(recorded):
    said = json.loads(
        otf(
            "hindcast", recorded / "recorded.extxyz", "--target", 10, "--timestep", 2, "--json"
        ).stdout
    )
    assert said["steps"] == 300
    assert 3 <= said["labels"] < 60
    assert said["force_mae_meV_A"] < 10.0


def test_hindcast_takes_model_and_policy_alone(recorded, tmp_path):
    path = tmp_path / "learning.yaml"
    path.write_text("policy: {kind: fixed, train_fs: 20, every: 25}\ntimestep_fs: 2\n")
    said = otf("hindcast", recorded / "recorded.extxyz", "--config", path).stdout
    assert "labels  23 of 300 frames" in said
    path.write_text("policy: {kind: fixt}\n")
    refused = otf("hindcast", recorded / "recorded.extxyz", "--config", path, rc=1).stderr
    assert "learning.yaml:1:16: policy.kind" in refused


@pytest.mark.parametrize("keys", [(), ("--keys", "REF_energy,REF_forces")])
def test_foreign_names_of_energy_and_forces(recorded, tmp_path, keys):
    renamed(recorded / "recorded.extxyz", tmp_path / "foreign.extxyz", "REF_")
    said = otf("hindcast", tmp_path / "foreign.extxyz", "--target", 10, *keys).stdout
    assert said == otf("hindcast", recorded / "recorded.extxyz", "--target", 10).stdout


def test_missing_names_are_listed(recorded, tmp_path):
    renamed(recorded / "recorded.extxyz", tmp_path / "foreign.extxyz", "my")
    refused = otf("fit", tmp_path / "foreign.extxyz", rc=1).stderr
    assert "has no energy" in refused
    assert "myenergy" in refused
    assert "--keys" in refused
    fitted = otf("fit", tmp_path / "foreign.extxyz", "--keys", "myenergy,myforces").stdout
    assert "300 frames" in fitted

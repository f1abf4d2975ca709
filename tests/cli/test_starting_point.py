"""Runs that start from a structure or an input file, without a configuration."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ase import Atoms
from ase.build import fcc111, molecule

from otf.config.reader import read_config
from otf.config.starter import Starter
from otf.engines.registry import installed_engines, load_engine
from otf.runs.starting_point import RunOptions, starter_of

ROOT = Path(__file__).parents[2]
DECKS = ROOT / "tests/golden"


def otf(*words: object, cwd: Path, rc: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "otf", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == rc, done.stderr
    return done


def test_a_configuration_for_a_molecule(tmp_path):
    molecule("CH3CH2OH").write(tmp_path / "my.xyz")
    said = otf("init", "my.xyz", cwd=tmp_path).stdout
    assert said == "wrote my.yaml; now: otf run my.yaml, or first: otf doctor my.yaml --try\n"
    config = read_config(tmp_path / "my.yaml")
    assert str(config.system.structure) == "my.xyz"
    assert (config.engine.kind, config.dynamics.timestep_fs) == ("tblite", 0.5)
    assert "already exists" in otf("init", "my.xyz", cwd=tmp_path, rc=1).stderr


def test_a_configuration_for_a_slab_elsewhere(tmp_path):
    fcc111("Cu", (2, 2, 3), vacuum=6.0, periodic=True).write(tmp_path / "POSCAR")
    (tmp_path / "runs").mkdir()
    otf("init", "POSCAR", "--output", "runs/cu.yaml", "--temperature", 600, cwd=tmp_path)
    config = read_config(tmp_path / "runs/cu.yaml")
    assert str(config.system.structure) == "../POSCAR"
    assert (config.dynamics.timestep_fs, config.dynamics.temperature_K) == (2.0, 600.0)


def test_an_odd_number_of_electrons_has_one_unpaired(tmp_path):
    Atoms("OH", [(0, 0, 0), (0, 0, 0.97)]).write(tmp_path / "oh.xyz")
    for charge, spin in ((0, 1), (-1, 0)):
        made = starter_of(tmp_path / "oh.xyz", RunOptions(charge=charge), folder=tmp_path)
        system = yaml.safe_load(str(made))["system"]
        assert (system["charge"], system["spin"]) == (charge, spin)


@pytest.mark.parametrize(
    ("source", "kind", "reader"),
    [
        (DECKS / "siesta/decks/siesta_origin.fdf", "siesta", "ase"),
        (DECKS / "openmx/decks/openmx_base.dat", "openmx", "ase"),
        (ROOT / "configs/espresso_si8.in", "ipi", "qe_tools"),
        (ROOT / "configs/cp2k_water.inp", "ipi", "cp2k_input_tools"),
    ],
)
def test_a_configuration_for_an_input_file(tmp_path, source, kind, reader):
    pytest.importorskip(reader)
    shutil.copy(source, tmp_path)
    options = RunOptions(command="prog")
    text = str(starter_of(tmp_path / source.name, options, folder=tmp_path))
    data = yaml.safe_load(text)
    assert data["system"] == {"from": source.name}
    engine = {"kind": kind, "template": source.name, "command": "prog"}
    assert data["engine"] == engine
    (tmp_path / "c.yaml").write_text(text)
    assert read_config(tmp_path / "c.yaml").dynamics.total_steps > 0


def test_every_option_of_every_engine_is_a_comment_that_can_be_used():
    for kind in installed_engines():
        options = load_engine(kind).Options
        text = str(Starter("Test.", {"molecule": ("CH4", "")}, kind, options))
        section = text.partition("engine:\n")[2].partition("\n\n")[0]
        given = yaml.safe_load(re.sub("(?m)^  # ", "  ", section))
        assert given.keys() == {"kind", *options.model_fields}


def test_a_structure_runs_without_a_configuration(tmp_path):
    molecule("H2O").write(tmp_path / "my.xyz")
    settings = ("--steps", 10, "--temperature", 200, "--target", 30, "--json")
    done = json.loads(otf("run", "my.xyz", *settings, cwd=tmp_path).stdout)
    assert done["steps"] == 10
    config = read_config(tmp_path / "runs/my/config.resolved.yaml")
    assert (config.dynamics.temperature_K, config.policy.force_target_meV_A) == (200.0, 30.0)


def test_what_cannot_start_is_named(tmp_path):
    (tmp_path / "c.yaml").write_text("system: {molecule: CH4}\n")
    refused = otf("run", "c.yaml", "--steps", 5, cwd=tmp_path, rc=1).stderr
    assert "c.yaml: is a configuration; change it there" in refused
    assert "no.xyz: there is no such file" in otf("run", "no.xyz", cwd=tmp_path, rc=1).stderr
    (tmp_path / "job.dat").write_text("nothing\n")
    refused = otf("init", "job.dat", cwd=tmp_path, rc=1).stderr
    assert "no engine reads it; name the engine (--engine)" in refused
    assert "as an input file of openmx: job.dat: has no block" in refused
    molecule("H2O").write(tmp_path / "my.xyz")
    refused = otf("run", "my.xyz", "--engine", "siesat", cwd=tmp_path, rc=1).stderr
    assert "did you mean 'siesta'?" in refused


def test_a_long_timestep_is_noted_before_the_first_label(tmp_path):
    molecule("H2O").write(tmp_path / "my.xyz")
    settings = ("--steps", 2, "--timestep", 2)
    said = otf("run", "my.xyz", *settings, cwd=tmp_path).stderr
    assert "dynamics.timestep_fs: 2 is long for the lightest atoms" in said

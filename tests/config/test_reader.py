"""Invalid configurations: all problems are reported with their location and remedy."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otf.config import Config, read_config
from otf.config.json_schema import config_schema
from otf.errors import ConfigError
from otf.runs.starting_point import RunOptions, example

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

GOOD = """\
system:
  molecule: CH4
engine:
  kind: tblite
dynamics:
  steps: 100
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    return [p.removeprefix(f"{tmp_path}/") for p in caught.value.problems]


def read(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return read_config(path)


BROKEN = {
    "misspelt key": (
        GOOD.replace("steps: 100", "steps: 100\n  timestep: 0.5"),
        ["config.yaml:7:3: dynamics.timestep: unknown key, did you mean 'timestep_fs'?"],
    ),
    "misspelt key whose name is a word of Python": (
        GOOD.replace("molecule: CH4", "molecule: CH4\n  form: job.dat"),
        ["config.yaml:3:3: system.form: unknown key, did you mean 'from'?"],
    ),
    "misspelt required key": (
        GOOD.replace("steps", "stepz"),
        ["config.yaml:6:3: dynamics.stepz: unknown key, did you mean 'steps'?"],
    ),
    "old name of a section": (
        GOOD + "walkers: {count: 2}\n",
        ["config.yaml:7:1: walkers: unknown key, did you mean 'replicas'? It was renamed"],
    ),
    "old names of keys": (
        GOOD + "policy: {second_opinion: true}\nmodel: {rank: 1}\n",
        [
            "config.yaml:7:10: policy.second_opinion: unknown key, did you mean "
            "'policy.force_check'? It was renamed",
            "config.yaml:8:9: model.rank: unknown key, did you mean 'model.order'? It was renamed",
        ],
    ),
    "missing length": (
        GOOD.replace("steps: 100", "seed: 1"),
        ["config.yaml:5:1: dynamics: give either steps, for a run without stages, or stages"],
    ),
    "length given twice over": (
        GOOD + "  stages: [{name: run, steps: 5}]\n",
        ["config.yaml:5:1: dynamics: give either steps, for a run without stages, or stages"],
    ),
    "stage that cannot be": (
        GOOD.replace("steps: 100", "stages: [{name: melt, steps: 5, temperature_end_K: 900}]"),
        [
            "config.yaml:5:1: dynamics: stage 'melt': temperature_end_K needs a thermostat, not "
            "ensemble 'nve'"
        ],
    ),
    "stages of one name": (
        GOOD.replace("steps: 100", "stages: [{name: a, steps: 5}, {name: a, steps: 5}]"),
        ["config.yaml:5:1: dynamics: stages: two of them have the same name; give each its own"],
    ),
    "duplicate key": (
        GOOD + "  steps: 200\n",
        ["config.yaml:7:3: dynamics.steps: given twice, first in line 6; keep one"],
    ),
    "wrong type": (
        GOOD.replace("100", "many"),
        ["config.yaml:6:10: dynamics.steps: input should be a valid integer, found 'many'"],
    ),
    "out of range": (
        GOOD.replace("100", "-5"),
        ["config.yaml:6:10: dynamics.steps: input should be greater than 0, found -5"],
    ),
    "number in quotes": (
        GOOD.replace("100", '"100"'),
        ["config.yaml:6:10: dynamics.steps: input should be a valid integer, found '100'"],
    ),
    "engine's key misspelt": (
        GOOD.replace("tblite", "tblite\n  acuracy: 0.1"),
        ["config.yaml:5:3: engine.acuracy: unknown key, did you mean 'accuracy'?"],
    ),
    "no such engine": (
        GOOD.replace("tblite", "tblight"),
        [
            "config.yaml:4:9: engine.kind: no engine is called 'tblight'; did you mean 'tblite'? "
            "installed: ase, d3, d4, ipi, openmx, pyscf, siesta, tblite, zbl"
        ],
    ),
    "two sources": (
        GOOD.replace("CH4", "CH4\n  bulk: {name: Si}"),
        [
            "config.yaml:1:1: system: give exactly one of structure, from, molecule, bulk; "
            "found molecule and bulk"
        ],
    ),
    "missing structure file": (
        GOOD.replace("molecule: CH4", "structure: water.xyz"),
        ["config.yaml:2:14: system.structure: there is no file 'water.xyz' beside the config file"],
    ),
    "tab": (
        GOOD.replace("  steps", "\tsteps"),
        [
            "config.yaml:6:1: not valid YAML: while scanning for the next token found character "
            "'\\t' that cannot start any token"
        ],
    ),
    "empty": ("", ["config.yaml: expected sections such as 'system:' and 'dynamics:'"]),
    "norway": (
        GOOD.replace("CH4", "CH4\n  charge: NO"),
        ["config.yaml:3:11: system.charge: input should be a valid integer, found 'NO'"],
    ),
    "three at once": (
        GOOD.replace("CH4", "CH4\n  sping: 1") + "  timestep_fs: -1\npolicy:\n  gap_max: 0.5\n",
        [
            "config.yaml:3:3: system.sping: unknown key, did you mean 'spin'?",
            "config.yaml:8:16: dynamics.timestep_fs: input should be greater than 0, found -1",
            "config.yaml:10:12: policy.gap_max: input should be a valid integer, found 0.5",
        ],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_configs_say_where_and_what(tmp_path, name):
    text, expected = BROKEN[name]
    assert problems(tmp_path, text) == expected


def test_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match="otf init"):
        read_config(tmp_path / "nothing.yaml")


def _with_lane(path: Path):
    """Input files of pw.x and CP2K are read by packages of the full lane."""
    needs = path.stem.startswith(("cp2k", "espresso"))
    return pytest.param(path, id=path.stem, marks=[pytest.mark.full] if needs else [])


@pytest.mark.parametrize("path", [_with_lane(path) for path in CONFIGS])
def test_shipped_configs_are_valid(path, tmp_path):
    shutil.copytree(path.parent, tmp_path / "configs")
    for linked in ("DFT_DATA19", "pseudos"):  # set by the user
        (tmp_path / "configs" / linked).mkdir(exist_ok=True)
    assert read_config(tmp_path / "configs" / path.name).dynamics.total_steps > 0


def test_template_is_valid(tmp_path):
    assert read(tmp_path, str(example(RunOptions()))).system.molecule == "CH4"


@pytest.mark.parametrize(
    ("text", "value"), [("1e-1", 0.1), ("1E+0", 1.0), (".5", 0.5), ("2", 2.0), ("5e-01", 0.5)]
)
def test_numbers_are_numbers(tmp_path, text, value):
    config = read(tmp_path, GOOD + f"  timestep_fs: {text}\n")
    assert config.dynamics.timestep_fs == value


@pytest.mark.parametrize("text", ["12:30:00", "0x10", "1_000", "yes", "2020-01-01"])
def test_yaml_1_1_surprises_are_text(tmp_path, text):
    assert f"found {text!r}" in problems(tmp_path, GOOD.replace("100", text))[0]


def test_alias_to_itself_is_refused(tmp_path):
    assert "refers to itself" in problems(tmp_path, GOOD + "policy: &p\n  kind: *p\n")[0]


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_cleanly(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(ConfigError):
        read_config(path)


def test_schema_knows_the_options_of_every_engine():
    schema = config_schema()
    engines = {e["title"]: e for e in schema["$defs"]["EngineSection"]["oneOf"]}
    assert {"ase", "ipi", "openmx", "pyscf", "siesta", "tblite"} < set(engines)
    assert "accuracy" in engines["tblite"]["properties"]
    assert "basis" in engines["pyscf"]["properties"]


def test_an_input_file_that_cannot_be_read_is_the_cause(tmp_path):
    """Not the section that it would have given."""
    (tmp_path / "job.fdf").write_text("SystemLabel x\n")
    path = tmp_path / "run.yaml"
    path.write_text("system: {from: job.fdf}\nengine: {kind: siesta, template: job.fdf}\n")
    with pytest.raises(ConfigError, match=r"job\.fdf: has no block ChemicalSpeciesLabel"):
        read_config(path)

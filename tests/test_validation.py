"""The validation runs of the examples: every one can be started."""

import shutil
from pathlib import Path

import pytest

from otf.config import read_config
from otf.runs.structure import make_structure

RUNS = sorted((Path(__file__).parents[1] / "examples/validation").glob("**/*.yaml"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_configuration_and_structure_are_valid(path, tmp_path):
    shutil.copytree(path.parent, tmp_path / "runs")
    for linked in ("DFT_DATA19", "pseudos"):  # by the user
        (tmp_path / "runs" / linked).mkdir()
    path = tmp_path / "runs" / path.name
    config = read_config(path)
    assert len(make_structure(config, path.parent)) > 0
    assert set(config.model.model_fields_set) <= {"baseline"}  # the rest are defaults
    assert set(config.policy.model_fields_set) <= {"force_target_meV_A", "labels_at_once"}

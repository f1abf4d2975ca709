"""Estimates of how many labels a run will take."""

import json
import re

import pytest

from otf.config.reader import config_of
from otf.errors import RunError
from otf.postprocess.estimate import estimate
from otf.runs.structure import make_structure
from tests.cli.command import otf as command

CONFIG = """
system: {molecule: CH3OH}
engine: {kind: ase, calculator: ase.calculators.emt:EMT}
dynamics: {ensemble: csvr, steps: 200, timestep_fs: 0.5, temperature_K: 300}
model: {baseline: auto}
"""


def estimated(tmp_path, *, noise=None, steps=100, seeds=1, **sections):
    config = config_of(
        {
            "system": {"molecule": "CH3OH"},
            "engine": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
            "dynamics": {"ensemble": "csvr", "steps": 200, "timestep_fs": 0.5},
            **sections,
        },
        tmp_path,
    )
    reported = []
    atoms = make_structure(config, tmp_path)
    found = estimate(
        config,
        atoms,
        steps=steps,
        seeds=seeds,
        noise=noise,
        progress=lambda *at: reported.append(at),
    )
    return found, reported


def test_simulations_label_one_by_one(tmp_path):
    """Their engine, with noise, is a single one."""
    one, several = (
        estimated(tmp_path, steps=30, noise=0.01, policy={"labels_at_once": count})[1]
        for count in (1, 3)
    )
    assert one == several


@pytest.mark.full
def test_the_labels_of_a_simulation_are_extrapolated(tmp_path):
    found, reported = estimated(tmp_path, seeds=2)
    assert [at[0] for at in reported] == sorted(at[0] for at in reported)
    second = [at[1:] for at in reported if at[0] == 1]
    assert second[-1] == (found.simulated[1], found.labels[1])
    assert 0 < found.replica < min(found.labels)  # it starts with the labels of the first
    assert (found.method, found.steps) == ("GFN2-xTB", 200)
    assert min(found.simulated) >= 100
    assert min(found.labels) / 1.5 < found.lowest < found.highest
    whole, _ = estimated(tmp_path, steps=10**6)
    assert whole.simulated == (200,)
    assert found.lowest < whole.labels[0] < found.highest


@pytest.mark.full
def test_noise_takes_labels(tmp_path):
    assert estimated(tmp_path, noise=0.03)[0].labels > estimated(tmp_path)[0].labels


def test_a_system_that_xtb_cannot_do_is_said(tmp_path):
    with pytest.raises(RunError, match=r"no estimate: GFN2-xTB cannot do this system .*spin 1"):
        estimated(tmp_path, system={"molecule": "CH4", "spin": 1})


def test_command(tmp_path):
    path = tmp_path / "methanol.yaml"
    path.write_text(CONFIG)
    done = command("estimate", path, "--steps", 60, "--seeds", 1)
    assert re.search(r"\d+ labels in \d+ steps, by GFN2-xTB", done.stdout)
    assert "fewer with model.baseline or learn_from, which are not simulated" in done.stdout
    assert "simulation 1 of 2: step 0, 1 labels" in done.stderr
    path.write_text(CONFIG.replace("CH3OH", "H2"))
    cost = json.loads(command("estimate", path, "--steps", 20, "--try", "--json").stdout)
    assert cost["label_s"] > 0.0
    assert len(cost["labels"]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["methanol.yaml"]

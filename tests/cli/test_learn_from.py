"""``otf run`` with the labels of earlier runs."""

import re

import pytest
from ase.build import bulk

from tests.cli.command import otf

CONFIG = """
system: {structure: cu.extxyz}
engine: {kind: ase, calculator: ase.calculators.emt:EMT}
dynamics: {steps: 2}
"""


@pytest.mark.full
def test_a_fitting_run_beside_a_new_one_is_suggested(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.write(tmp_path / "cu.extxyz")
    path = tmp_path / "c.yaml"

    def printed(name, text):
        path.write_text(text)
        done = otf("run", path, "--output", tmp_path / "runs" / name)
        return done.stdout + done.stderr

    assert "learn_from" not in printed("one", CONFIG)
    assert "runs/one has labels of the same engine and settings" in printed("two", CONFIG)
    other = CONFIG.replace("EMT}", "EMT, keywords: {asap_cutoff: true}}")
    assert "learn_from" not in printed("three", other)
    learned = printed("four", CONFIG + "learn_from: [runs/one]\n")
    assert "learn_from" not in learned
    assert re.search(rf"after \d of {tmp_path}/runs/one", learned), learned

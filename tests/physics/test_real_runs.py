"""Short runs on real engines, audited by labelling committed frames afterwards."""

from pathlib import Path

import pytest

from otf.config import read_config
from otf.postprocess.audit import Audit, audit_summary
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.session import run_session

CONFIGS = Path(__file__).parents[2] / "configs"


def run(tmp_path: Path, text: str):
    source = tmp_path / "config.yaml"
    source.write_text(text)
    path = create_run(read_config(source), source, tmp_path / "run").path
    return path, run_session(*read_run(path))


def shipped(name: str, steps: int) -> str:
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    text = "\n".join(f"  steps: {steps}" if "steps:" in line else line for line in lines)
    return text.replace("structure: ", f"structure: {CONFIGS}/")


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "labels", "force_meV_A", "energy_meV_atom"),
    [("quickstart", 1000, 60, 2.0, 0.1), ("nitrobenzene", 600, 100, 30.0, 1.0)],
)
def test_molecules_with_tblite(tmp_path, long, name, steps, labels, force_meV_A, energy_meV_atom):
    path, summary = run(tmp_path, shipped(name, 4000 if long else steps))
    true = audit_summary(list(Audit(path, every=20).frames()))
    assert summary.labels <= labels
    assert true.force_mae_meV_A <= force_meV_A
    assert true.energy_mae_meV_atom <= energy_meV_atom


@pytest.mark.slow
@pytest.mark.full
def test_methane_with_dft(tmp_path, long):
    text = shipped("ch4_pbe", 1000 if long else 120)
    if not long:
        text = text.replace("basis: def2-svp", "basis: def2-svp\n  grid_level: 1")
    path, summary = run(tmp_path, text)
    true = audit_summary(list(Audit(path, every=100 if long else 30).frames()))
    assert summary.level == "DFT"
    assert summary.labels_percent <= (5.0 if long else 20.0)
    assert true.force_mae_meV_A <= 2.0


DIAMOND = """\
system:
  bulk: {name: C, a_A: 3.57, cubic: true}
engine:
  kind: tblite
  method: GFN1-xTB
dynamics:
  ensemble: csvr
  steps: 200
  timestep_fs: 1.0
  temperature_K: 300
policy:
  force_target_meV_A: 40
"""


@pytest.mark.slow
def test_crystal_with_tblite(tmp_path, long):
    path, summary = run(tmp_path, shipped("silicon", 500) if long else DIAMOND)
    true = audit_summary(list(Audit(path, every=20).frames()))
    assert summary.labels <= 40
    assert true.force_mae_meV_A <= (15.0 if long else 40.0)

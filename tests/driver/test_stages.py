"""Runs in stages and at constant pressure: aluminium by EMT through ASE."""

from pathlib import Path

import numpy as np
import pytest

from otf.analysis.rdf import RdfSum
from otf.config import read_config
from otf.driver.records import Segment
from otf.errors import ConfigError, EngineError, RunError
from otf.io.read_frames import read_frames
from otf.io.trajectory import read_trajectory
from otf.runs.create import create_run
from otf.runs.directory import change_steps, read_run
from otf.runs.session import run_session
from otf.runs.stopping import ENOUGH, RDF_KNOWN

CONFIG = """\
system:
  bulk: {name: Al, a_A: 4.05, cubic: true}
  repeat: [2, 2, 2]
engine: {kind: ase, calculator: "emt_calculators:Forgetful"}
dynamics:
  timestep_fs: 2.0
  temperature_K: 300
  ensemble: nve
  stages:
    - {name: warm, ensemble: langevin, steps: 60, temperature_K: 100, temperature_end_K: 300}
    - {name: press, ensemble: npt, steps: 140, pressure_GPa: 1, pressure_end_GPa: 3,
       pressure_constant_fs: 200}
    - {name: produce, steps: 80}
model: {radial_three: 2, l_max: 2, order: 1}
policy: {force_target_meV_A: 10, gap_max: 50}
"""


def make(folder: Path, text: str = CONFIG, name: str = "run") -> Path:
    source = folder / f"{name}.yaml"
    source.write_text(text)
    return create_run(read_config(source), source, folder / name).path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = make(tmp_path_factory.mktemp("stages"))
    records = []
    summary = run_session(*read_run(path), records.append)
    return path, summary, [r for r in records if isinstance(r, Segment)]


def test_each_stage_does_what_it_says(finished):
    path, summary, segments = finished
    t = read_trajectory(path / "trajectory.h5")
    assert summary.steps == summary.steps_wanted == 280 == len(t) - 1
    assert t.stages == ("warm", "press", "produce")
    frames = read_frames(path)
    assert len(frames.of_stage(None)) == len(frames.of_stage("produce")) == 80
    assert len(frames.of_stage("all")) == 281
    with pytest.raises(RunError, match="no stage 'cool'; its stages are warm, press, produce"):
        frames.of_stage("cool")
    assert t.stage.tolist() == [0] * 61 + [1] * 140 + [2] * 80
    volume = np.linalg.det(t.cells)
    assert np.ptp(volume[:61]) == np.ptp(volume[200:]) == 0.0 < np.ptp(volume[60:201])
    assert t.temperature[:20].mean() < 170
    assert t.pressure_GPa[150:201].mean() == pytest.approx(2.7, abs=0.6)
    assert np.ptp(t.barostat[:61]) == np.ptp(t.barostat[200:]) == 0.0 != t.barostat[200]
    assert np.ptp(t.heat[200:]) < 1e-12 < abs(t.heat[200])
    assert {60, 200, 280} <= {s.label.step for s in segments}  # a stage ends with a label
    assert abs(t.frame(100).get_volume() - volume[100]) < 1e-9


def test_the_books_of_a_moving_cell_balance(finished):
    _, summary, segments = finished
    assert abs(summary.energy_conservation.conserved_meV_ps) < 10.0  # of a kinetic energy of 2.5 eV
    assert summary.energy_conservation.conserved_scatter_meV < 3.0
    # Where the guard fires, the prediction is wrong and not committed.
    totals = [s.label.total_energy for s in segments if s.label.reason != "guard"]
    assert np.ptp(totals) < 0.1
    assert summary.energy_conservation.barostat_meV > 20.0  # compression does work on the atoms


@pytest.mark.full
def test_a_stopped_run_goes_on_to_the_same_bits(finished, tmp_path):
    whole = read_trajectory(finished[0] / "trajectory.h5")
    for labels in (5, 9, 12):
        text = CONFIG + f"stop: {{labels: {labels}}}\n"
        path = make(tmp_path, text, f"stopped{labels}")
        stopped = run_session(*read_run(path))
        assert stopped.steps < 280
        resolved = path / "config.resolved.yaml"
        resolved.write_text(resolved.read_text().replace(f"labels: {labels}", "labels: 1000"))
        run_session(*read_run(path))
        again = read_trajectory(path / "trajectory.h5")
        for name in ("positions", "velocities", "cells", "heat", "barostat", "conserved_energy"):
            assert getattr(again, name).tobytes() == getattr(whole, name).tobytes()


@pytest.mark.full
def test_the_last_stage_may_become_longer(tmp_path):
    path = make(tmp_path)
    with pytest.raises(ConfigError, match="the last of the stages begins at 200"):
        change_steps(path, 150)
    run_session(*read_run(path))
    change_steps(path, 300)
    assert run_session(*read_run(path)).steps == 300
    with pytest.raises(RunError, match="has 300 steps already; --steps 280 is fewer"):
        change_steps(path, 280)
    resolved = path / "config.resolved.yaml"
    resolved.write_text(resolved.read_text().replace("steps: 140", "steps: 150"))
    with pytest.raises(ConfigError, match=r"dynamics\.stages: was"):
        run_session(*read_run(path))


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("repeat: [2, 2, 2]", "fixed_atoms: [0]", ConfigError, "nothing can be fixed while the"),
        ("radial_three: 2", "radial_three: 2, coupling: self", ConfigError, "has no stress"),
        (
            "  bulk: {name: Al, a_A: 4.05, cubic: true}\n  repeat: [2, 2, 2]",
            "  molecule: CH4",
            ConfigError,
            "periodic in all three directions",
        ),
        (
            '{kind: ase, calculator: "emt_calculators:Forgetful"}',
            "{kind: openmx, template: a.dat, command: openmx, stress: false}",
            EngineError,
            "gives no stress",
        ),
    ],
)
def test_pressure_that_cannot_be_kept_is_refused_at_the_start(tmp_path, old, new, error, message):
    (tmp_path / "a.dat").write_text("scf.XcType GGA-PBE\n")
    with pytest.raises(error, match=message):
        make(tmp_path, CONFIG.replace(old, new))
    assert not (tmp_path / "run").exists()


def test_calculator_without_stress_is_found_out_at_the_first_label(tmp_path):
    text = CONFIG.replace("emt_calculators:Forgetful", "emt_calculators:Stressless")
    path = make(tmp_path, text)
    with pytest.raises(RunError, match="there is no stress in its label"):
        run_session(*read_run(path))


RDF = """\
system:
  bulk: {name: Al, a_A: 4.05, cubic: true}
  repeat: [2, 2, 2]
engine: {kind: ase, calculator: "emt_calculators:Forgetful"}
dynamics:
  timestep_fs: 4.0
  stages:
    - {name: warm, ensemble: csvr, steps: 50, time_constant_fs: 20}
    - {name: produce, ensemble: csvr, steps: 5000}
model: {radial_three: 2, l_max: 2, order: 1}
policy: {force_target_meV_A: 10, gap_max: 50}
stop: {rdf_error: 0.12, rdf_cutoff_A: 5}
"""


@pytest.mark.full
def test_a_run_ends_when_its_rdf_is_known_well_enough(tmp_path):
    path = make(tmp_path, RDF)
    summary = run_session(*read_run(path))
    assert summary.stopped_by == RDF_KNOWN
    assert 300 < summary.steps < 5000
    t = read_trajectory(path / "trajectory.h5")
    found = RdfSum(t.atoms, 5.0, 100)
    for i in range(51, len(t), 5):  # frames of the last stage only
        found.add(t.positions[i], t.cells[i])
    assert 0.08 < found.result().worst_error < 0.12
    stopped = make(tmp_path, RDF.replace("5}", "5, labels: 6}"), "stopped")
    assert run_session(*read_run(stopped)).stopped_by == ENOUGH
    resolved = stopped / "config.resolved.yaml"
    resolved.write_text(resolved.read_text().replace("labels: 6", "labels: 999"))
    assert run_session(*read_run(stopped)).steps == summary.steps  # earlier frames count


def test_a_molecule_has_no_rdf_to_wait_for(tmp_path):
    text = CONFIG[CONFIG.index("dynamics") :].replace("npt", "csvr")
    text = text.replace("pressure_GPa: 1, pressure_end_GPa: 3,", "")
    text = "system: {molecule: CH4}\nengine: {kind: tblite}\n" + text + "stop: {rdf_error: 0.1}\n"
    with pytest.raises(ConfigError, match=r"stop\.rdf_error: g\(r\) needs a density"):
        make(tmp_path, text)

"""Cost of a run: over all sessions, and against the engine alone."""

import pytest

from otf import open_run
from otf.cli.summary_text import describe
from otf.postprocess.status import overview
from otf.runs.cost import cost_of
from tests.cli.command import otf
from tests.driver.test_statistics import label

CONFIG = """\
system:
  molecule: CH4
engine:
  kind: tblite
dynamics:
  steps: 60
"""


def test_a_step_of_the_engine_costs_what_labels_right_after_another_do():
    first = label(0, 0.0, reason="start", elapsed=0, wall_s=9.0)
    close = [label(i, 1.0, reason="start", elapsed=1, wall_s=2.0) for i in (1, 2, 3)]
    far = [label(i, 1.0, wall_s=4.0) for i in (4, 5)]
    cost = cost_of((first, *close, *far), wall_s=50.0, steps=99, further_s=3.0)
    assert cost.step_s == 2.0
    assert cost.alone_s == 200.0
    assert cost.engine_s == 9.0 + 6.0 + 8.0 + 3.0
    assert cost.saved_percent == pytest.approx(75.0)
    assert cost_of((first, *far), wall_s=1.0, steps=9).step_s == pytest.approx(17.0 / 3)


@pytest.mark.full
def test_no_session_is_forgotten_and_all_places_say_the_same(tmp_path):
    (tmp_path / "run.yaml").write_text(CONFIG)
    path = tmp_path / "runs" / "run"
    otf("run", tmp_path / "run.yaml", "--output", path)
    first = overview(path).cost
    otf("resume", path, "--steps", 200)
    run = open_run(path)
    second = overview(path).cost
    assert second == run.summary.cost
    assert second.wall_s > first.wall_s
    assert second.in_words() in describe(run.summary)
    assert second.in_words() in otf("status", path).stdout
    page = (path / "report.html").read_text()
    assert f"<b>{max(0.0, second.saved_percent):.1f} %</b><span>saved" in page
    assert f"{run.summary.labels} ({run.summary.labels_percent:.2f} %)" in page

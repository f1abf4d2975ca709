"""``otf report``: one complete, small and self-contained page."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.command import otf

MD = """\
system: {bulk: {name: Al, a_A: 4.05, cubic: true}}
engine: {kind: ase, calculator: "ase.calculators.emt:EMT"}
dynamics:
  timestep_fs: 2.0
  stages:
    - {name: warm, ensemble: langevin, steps: 40}
    - {name: press & hold, ensemble: npt, steps: 200}
policy: {force_target_meV_A: 20}
"""
MOLECULE = """\
system: {molecule: CH4}
engine: {kind: tblite}
dynamics: {ensemble: langevin, timestep_fs: 0.5, steps: 600}
policy: {gap_max: 15}
"""
MONTE_CARLO = """\
system: {molecule: CH4}
engine: {kind: tblite}
dynamics: {ensemble: slhmc, steps: 60, burn_in: 30}
"""


def reported(folder: Path, config: str) -> str:
    (folder / "c.yaml").write_text(config)
    said = otf("run", folder / "c.yaml", "--output", folder / "run").stdout
    page = folder / "run/report.html"
    assert said.endswith(f"look at it  {page}\n")
    written = page.read_text()
    assert otf("report", folder / "run").stdout == f"written: {page}\n"
    assert page.read_text() == written
    return written


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return reported(tmp_path_factory.mktemp("report"), MD)


class Reader(HTMLParser):
    """Parser of a page; checks that its elements are properly nested."""

    EMPTY = ("meta", "path", "use", "br", "rect", "input", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag, attributes):
        if tag not in self.EMPTY:
            self.open.append(tag)
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[k] for k in ("href", "src", "xlink:href") if k in values]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_a_page_holds_all_its_sections(page):
    assert read(page).headings == [
        "Labels",
        "Labels over time",
        "Growth of the errors",
        "Calibration of the predicted errors",
        "Energy",
        "Temperature",
        "Pressure",
        "Radial distributions",
        "The atoms",
        "Files",
    ]
    assert "<span>saved</span>" in page
    assert "<dt>system</dt><dd>Al4, 4 atoms, periodic in 3 directions</dd>" in page
    assert re.search(r"<dt>method</dt><dd>ase [\d.]+ ase.calculators.emt:EMT</dd>", page)
    assert "<dt>timestep</dt><dd>2 fs</dd><dt>seed</dt><dd>1</dd>" in page
    assert "press &amp; hold: npt, 200 steps, 300 K" in page
    assert re.search(r'class="verdict (kept|undecided|broken)">target 20 meV/A', page)


def test_replicas_are_on_one_page(tmp_path):
    config = (
        "system: {bulk: {name: Al, a_A: 4.05, cubic: true}}\n"
        'engine: {kind: ase, calculator: "ase.calculators.emt:EMT"}\n'
        "dynamics: {ensemble: langevin, steps: 60, timestep_fs: 2.0}\nreplicas: {count: 2}\n"
    )
    (tmp_path / "c.yaml").write_text(config)
    said = otf("run", tmp_path / "c.yaml", "--output", tmp_path / "run").stdout
    written = tmp_path / "run/report.html"
    assert said.endswith(f"look at it  {written}\n")
    page = written.read_text()
    reader = read(page)
    assert reader.headings == ["Replicas", "Labels", "Temperature", "Radial distributions"]
    links = [link for link in reader.links if not link.startswith("#")]
    assert links == ["replica-0/report.html", "replica-1/report.html"]
    assert all((written.parent / link).exists() for link in links)
    assert "<h1>2 replicas of Al4 by ase</h1>" in page
    assert "<b>120</b><span>steps</span>" in page
    assert otf("report", tmp_path / "run").stdout.endswith(f"written: {written}\n")
    assert written.read_text() == page
    elsewhere = tmp_path / "elsewhere.html"
    otf("report", tmp_path / "run", "--output", elsewhere)
    assert "run/replica-1/report.html" in read(elsewhere.read_text()).links
    refused = otf("report", tmp_path / "run", "--watch", 5, rc=2).stderr
    assert "--watch takes the directory of one replica" in refused


@pytest.mark.full
def test_the_page_and_the_summary_show_the_same_numbers(tmp_path):
    text = html.unescape(reported(tmp_path, MD))
    said = otf("resume", tmp_path / "run").stdout  # the summary of the finished run
    for pattern in (
        r"error +(force MAE .*)",
        r"contract +(target .*)",
        r"temperature (.*)",
        r"energy +conserved to (.*?) \(",
        r"scatter (.*?) meV",
        r"energy .* changed by (.*) meV",
        r"discontinuities at model updates (.*?),",
        r"heat (.*?),",
        r"barostat (.*?),",
    ):
        found = re.search(pattern, said)
        assert found is not None, pattern
        assert found.group(1) in text, found.group(1)
    calls = re.search(r"labels +(\d+) by ase .*?, (.*?) of the steps", said)
    assert f"{calls.group(1)} ({calls.group(2)})" in text
    state = otf("status", tmp_path / "run").stdout
    contract = re.search(r"contract +(.*)", state).group(1)
    assert contract in text
    assert f"labels    {calls.group(1)} ({calls.group(2)} of the steps)" in state


def test_pictures_are_drawn_and_take_the_colours_of_the_page(page):
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(pictures) == 2 * 8  # for wide and for narrow screens
    for picture in pictures:
        drawn = ElementTree.fromstring(picture)
        assert len(list(drawn.iter("{http://www.w3.org/2000/svg}path"))) > 5
        assert "currentColor" in picture
        assert "#010203" not in picture
        assert "#000000" not in picture


def test_a_page_needs_nothing_else_and_is_small(page):
    reader = read(page)
    assert len(reader.ids) == len(set(reader.ids))
    inside = [link for link in reader.links if link.startswith("#")]
    assert {link[1:] for link in inside} <= set(reader.ids)
    outside = [link for link in reader.links if not link.startswith("#")]
    assert set(outside) <= {
        "labels.extxyz", "trajectory.h5", "model.h5", "run.log", "config.resolved.yaml"
    }  # fmt: skip
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    assert "@import" not in page
    assert len(page) < 2_000_000


@pytest.mark.full
def test_a_page_of_monte_carlo(tmp_path):
    page = reported(tmp_path, MONTE_CARLO)
    assert "exact sampling: no error target" in page
    headings = read(page).headings
    assert "Energy" not in headings
    assert "Radial distributions" in headings
    found = otf("analyse", "free-energy", tmp_path / "run", "--along", "distance 0 1").stdout
    assert "# 30 frames at 300 K" in found


def test_the_effect_of_errors_is_that_of_pairs_that_occur(tmp_path):
    page = reported(tmp_path, MOLECULE)
    found = re.search("the error of the model moves this share of their area: ([^;]*);", page)
    assert found is not None
    assert re.findall(r"(\S+) [0-9.]+ % \(noise", found[1]) == ["H-H", "H-C"]
    assert "C-C" not in found[1]


@pytest.mark.full
def test_a_run_in_progress_and_one_not_begun(tmp_path, page):
    config = MD + "stop: {labels: 3}\n"
    page = reported(tmp_path, config)
    assert ": stopped; warm" in page
    assert "no verdict: no target, or fewer than three audits yet" in page
    for name in ("checkpoint.h5", "labels.extxyz"):
        (tmp_path / "run" / name).unlink()
    assert "nothing to report" in otf("report", tmp_path / "run", rc=1).stderr
    assert "is not a run of otf" in otf("report", tmp_path, rc=1).stderr


@pytest.mark.full
def test_an_audit_has_a_section_of_its_own(tmp_path):
    reported(tmp_path, MD)
    said = otf("audit", tmp_path / "run", "--every", 40).stdout
    otf("report", tmp_path / "run")
    page = (tmp_path / "run/report.html").read_text()
    assert "Audit" in read(page).headings
    error = re.search(r"force +MAE ([\d.]+) meV/A", said).group(1)
    assert f"force MAE {error} meV/Å. Every force component" in page

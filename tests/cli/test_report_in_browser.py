"""The report in a real Chromium, opened from a file without network."""

import fcntl
import io
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from matplotlib.image import imread

from tests.cli.command import otf

sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright

pytestmark = pytest.mark.full  # a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")

CRYSTAL = """\
system: {bulk: {name: Al, a_A: 4.05, cubic: true}, repeat: [2, 1, 1]}
engine: {kind: ase, calculator: "ase.calculators.emt:EMT"}
dynamics: {ensemble: npt, steps: 120, timestep_fs: 2.0}
policy: {force_target_meV_A: 20}
"""
MOLECULE = """\
system: {molecule: CH3CH2OH}
engine: {kind: tblite}
dynamics: {steps: 100, timestep_fs: 0.5}
policy: {force_target_meV_A: 40}
"""


@pytest.fixture(scope="module", params=[CRYSTAL, MOLECULE], ids=["crystal", "molecule"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    (folder / "c.yaml").write_text(request.param)
    otf("run", folder / "c.yaml", "--output", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def launch():
    """Start a Chromium with these flags."""
    with sync_playwright() as playwright:
        yield lambda *flags: playwright.chromium.launch(
            executable_path=CHROMIUM, args=("--no-sandbox", *flags)
        )


@pytest.fixture(scope="module")
def chromium(launch):
    with launch("--use-angle=swiftshader", "--enable-unsafe-swiftshader") as browser:
        yield browser


@pytest.fixture(params=["light", "dark"])
def page(request, run, chromium):
    phone = {"width": 390, "height": 800}
    context = chromium.new_context(color_scheme=request.param, viewport=phone, offline=True)
    page = context.new_page()
    page.problems, page.asked = [], []
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda r: page.asked.append(r.url))
    page.goto((run / "report.html").as_uri())
    page.wait_for_selector("#stage[data-drawn]")
    yield page
    context.close()


def wait_for(page, condition):
    """Wait for a condition; within the page its policy forbids to evaluate text."""
    until = time.monotonic() + 30.0
    while not page.evaluate(condition):
        assert time.monotonic() < until, condition
        time.sleep(0.02)


def pixels(locator):
    return imread(io.BytesIO(locator.screenshot()))[..., :3]


def differing(one, other):
    return np.mean(np.abs(one - other).max(axis=-1) > 0.05)


@needs_chromium
def test_the_page_shows_everything_and_asks_for_nothing(page, run):
    assert page.asked == [(run / "report.html").as_uri()]
    assert page.title().startswith("otf: ")
    pictures = page.locator("svg:visible")  # those for a narrow screen
    assert pictures.count() == page.locator("figure").count() - 1 >= 5
    for i in range(pictures.count()):
        shown = pixels(pictures.nth(i))
        assert differing(shown, shown[:1, :1]) > 0.005
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0  # nothing exceeds the width of a phone
    assert page.problems == []


@needs_chromium
def test_the_viewer_draws_plays_and_colours(page):
    stage = page.locator("#stage canvas").first
    first = pixels(stage)
    assert differing(first, first[:1, :1]) > 0.02
    page.locator("#by-error").check()
    by_error = pixels(stage)
    assert differing(first, by_error) > 0.01
    last = page.locator("#frame").get_attribute("max")
    page.locator("#frame").fill(last)
    assert page.locator("#when").text_content() not in ("", "0.000 ps")
    assert differing(by_error, pixels(stage)) > 0.001
    page.locator("#play").click()
    wait_for(page, "document.getElementById('when').textContent == '0.000 ps'")
    page.locator("#play").click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    wait_for(page, "document.getElementById('printed').naturalWidth > 0")
    assert not stage.is_visible()
    printed = pixels(page.locator("#printed"))
    assert differing(printed, printed[:1, :1]) > 0.02
    assert page.problems == []


@needs_chromium
def test_a_browser_without_webgl_shows_a_message(run, launch):
    with launch("--disable-gpu", "--disable-3d-apis") as browser:
        page = browser.new_page()
        page.goto((run / "report.html").as_uri())
        assert "WebGL is off" in page.locator("#stage").text_content()
        assert page.locator("svg").count() >= 5


def test_a_watched_report_follows_the_run_and_ends_with_it(run):
    page = run / "report.html"
    with (run / ".lock").open("rb") as stream:  # as a running process holds it
        fcntl.flock(stream, fcntl.LOCK_EX)
        page.unlink()
        watching = subprocess.Popen(
            [sys.executable, "-m", "otf", "report", run, "--watch", "1"], stdout=subprocess.PIPE
        )
        while not page.exists():
            assert watching.poll() is None
            time.sleep(0.05)
        assert '<meta http-equiv="refresh" content="1">' in page.read_text()
        assert watching.poll() is None
    said, _ = watching.communicate(timeout=60)
    assert said.count(b"written: ") >= 2
    assert 'http-equiv="refresh"' not in page.read_text()

"""The line that shows the progress of a run."""

import io
import os
import re
import subprocess
import sys

from rich.console import Console

from otf.cli.progress import _bar

LINE = "labels 41, last error 15.4 meV/A, gap 1000, 1.25 ns/day, engine alone 29.9"


def drawn(width: int) -> str:
    out = io.StringIO()
    with _bar(Console(file=out, width=width, force_terminal=True, color_system=None)) as bar:
        task = bar.add_task("", total=200000, phase="predict", line=LINE)
        bar.update(task, completed=94217)
        bar.refresh()
    return out.getvalue().split("\x1b[2K")[-1].splitlines()[0]


def test_steps_and_remaining_time_fit_into_a_narrow_terminal():
    shown = drawn(80)
    assert "predict" in shown
    assert re.search(r" 94217/200000 (--|\d\d):(--|\d\d) labels 41, last error", shown)
    assert len(shown) <= 80


def test_a_wide_terminal_has_room_for_everything():
    shown = drawn(160)
    assert LINE in shown
    assert "\u2501" in shown


def test_a_backend_of_a_notebook_is_not_taken_over(tmp_path):
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    code = (
        "from otf.cli.main import main; import sys\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "import matplotlib.pyplot as p; print(p.get_backend())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1].lower() == "agg"


def test_kernels_compile_where_no_cache_can_be_written():
    environment = os.environ | {"NUMBA_CACHE_DIR": "/proc/nowhere"}
    code = "from otf.kernels.jit import kernel\nprint(kernel(lambda x: 2.0 * x)(21.0))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "42.0"

"""The examples run unmodified."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.full  # PySCF; takes minutes

EXAMPLES = Path(__file__).parents[1] / "examples"

DIAMOND = """\
system:
  bulk: {name: C, a_A: 3.57, cubic: true}
engine:
  kind: tblite
  method: GFN1-xTB
dynamics:
  steps: 40
"""


def python(folder: Path, *arguments: object, check: bool = True):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, check=check, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with runs from Python and from the command line."""
    folder = tmp_path_factory.mktemp("examples")
    assert "labels for 800 steps" in python(folder, EXAMPLES / "python_api.py").stdout
    (folder / "diamond.yaml").write_text(DIAMOND)
    for config in ("diamond.yaml", EXAMPLES.parent / "configs/quickstart.yaml"):
        python(folder, "-m", "otf", "run", config)
    return folder


def test_rdf_finds_the_bond_length(folder):
    lines = python(folder, EXAMPLES / "rdf.py", "runs/diamond").stdout.splitlines()
    rows = [[float(x) for x in line.split()] for line in lines[1:121]]  # g, coordination number
    highest = max((r for r in rows if r[0] < 2.0), key=lambda r: r[1])
    assert highest[0] == pytest.approx(1.546, abs=0.05)


def test_rdf_of_a_molecule_counts_atoms_in_a_unit_of_length(folder):
    printed = python(folder, EXAMPLES / "rdf.py", "runs/quickstart").stdout
    assert "per_A standard_error" in printed


def test_benchmark_table_measures_what_is_installed(folder):
    printed = python(folder, EXAMPLES / "benchmark_table.py", "--atoms", 8).stdout
    rows = {line[:26].strip(): line[26:].split() for line in printed.splitlines()}
    for name in ("otf three-body", "otf four-body", "otf four-body, LAMMPS", "UF3 (Nb)"):
        assert float(rows[name][0]) > 0.0


def test_picture_is_drawn(folder):
    python(folder, EXAMPLES / "plot_run.py", "runs/quickstart", "run.png", 200)
    assert (folder / "run.png").read_bytes().startswith(b"\x89PNG")


def test_gap_of_temperature(folder):
    pytest.importorskip("pyscf")
    options = "--molecule H2 --basis sto-3g --temperatures 300 --steps 30 --from 0 --every 10"
    said = python(folder, EXAMPLES / "gap_of_temperature.py", *options.split()).stdout
    assert " 300 K " in said
    assert "left-out error of the gap: " in said
    assert (folder / "gap.png").stat().st_size > 1000


def test_forces_without_scf(folder):
    """With few labels in a small basis the learned Hamiltonian still gives the best forces."""
    pytest.importorskip("pyscf")
    options = "--molecule H2O --basis sto-3g --train 12 --test 2"
    said = python(folder, EXAMPLES / "forces_without_scf.py", *options.split()).stdout
    rows = [line.split() for line in said.splitlines()[-3:]]
    off = {row[0]: float(row[1]) for row in rows}
    assert list(off) == ["direct", "purified", "diagonalised"]
    assert off["diagonalised"] < off["direct"]

"""Contents of the wheel and its entry points."""

import subprocess
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(path)


def test_top_level_names_of_the_wheel(wheel):
    names = {n.split("/")[0] for n in wheel.namelist() if ".dist-info" not in n}
    assert names == {
        "otf", "otf_ase", "otf_corrections", "otf_ipi", "otf_openmx", "otf_pyscf", "otf_siesta",
        "otf_tblite",
    }  # fmt: skip


def test_top_level_of_the_project():
    """Files of programs that a test has started must not be committed."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {path.split("/")[0] for path in listed.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} == {
        "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md",
        "configs", "docs", "examples", "interfaces", "otf", "pyproject.toml", "tests",
    }  # fmt: skip


def test_wheel_is_typed_and_holds_no_tests(wheel):
    assert "otf/py.typed" in wheel.namelist()
    for package, new in (("otf_openmx", "keywords_4.txt"), ("otf_siesta", "keywords_5.txt")):
        assert {f"{package}/keywords.txt", f"{package}/{new}"} <= set(wheel.namelist())
    assert not [n for n in wheel.namelist() if "test_" in n or n.endswith((".yaml", ".xyz"))]


def test_entry_points(wheel):
    (name,) = [n for n in wheel.namelist() if n.endswith("entry_points.txt")]
    text = wheel.read(name).decode()
    assert "otf = otf.cli.main:main" in text
    for kind in ("ase", "ipi", "openmx", "pyscf", "siesta", "tblite"):
        assert f"{kind} = otf_{kind}.engine:" in text
    for kind in ("d3", "d4", "zbl"):
        assert f"{kind} = otf_corrections." in text

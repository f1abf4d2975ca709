"""Commands overwrite nothing unasked, and the files of a run never."""

import ase.io
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT

from tests.cli.command import otf


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a short run, and labelled structures."""
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "run.yaml").write_text(
        "system: {molecule: CH4}\nengine: {kind: tblite}\ndynamics: {steps: 20}\n"
    )
    otf("run", folder / "run.yaml", "--output", folder / "run")
    frames = []
    for seed in range(4):
        atoms = molecule("CH4")
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    ase.io.write(folder / "paid.extxyz", frames, format="extxyz")
    return folder


def commands(folder, target):
    run = folder / "run"
    return {
        "fit": ("fit", folder / "paid.extxyz", "--output", target),
        "report": ("report", run, "--output", target),
        "export": ("export", run, target, "--as", "extxyz"),
        "analyse": ("analyse", "rdf", run, "--cutoff", "3", "--output", target),
        "compare": ("compare", run, run, "--cutoff", "3", "--output", target),
        "phonons": ("analyse", "phonons", run, "--output", target),
    }


@pytest.mark.parametrize("name", ["fit", "report", "export", "analyse", "compare", "phonons"])
def test_files_that_exist_are_kept(folder, name):
    paid = folder / "paid.extxyz"
    before = paid.read_bytes()
    said = otf(*commands(folder, paid)[name], rc=2).stderr
    assert f"{paid} exists; choose another name, or add --force" in said
    assert paid.read_bytes() == before


@pytest.mark.parametrize("name", ["fit", "report", "export", "analyse"])
@pytest.mark.parametrize("file", ["labels.extxyz", "checkpoint.h5", "config.resolved.yaml"])
def test_files_of_a_run_are_kept_even_by_force(folder, name, file):
    target = folder / "run" / file
    before = target.read_bytes()
    said = otf(*commands(folder, target)[name], "--force", rc=2).stderr
    assert "is a file of the run" in said
    assert target.read_bytes() == before


@pytest.mark.parametrize("name", ["fit", "report", "export"])
def test_force_overwrites_other_files(folder, name, tmp_path):
    target = tmp_path / "old.extxyz"
    target.write_text("old")
    otf(*commands(folder, target)[name], "--force")
    assert target.read_bytes()[:3] != b"old"

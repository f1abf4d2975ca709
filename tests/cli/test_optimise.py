"""``otf relax`` and ``otf neb``."""

import subprocess
import sys

import pytest
from ase.build import add_adsorbate, fcc100, molecule
from ase.constraints import FixAtoms
from ase.io import read


def otf(*words: object, cwd, rc: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "otf", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == rc, done.stderr
    return done


@pytest.mark.full
def test_a_structure_is_relaxed_and_its_labels_are_used_again(tmp_path):
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=1)
    atoms.write(tmp_path / "water.xyz")
    said = otf("relax", "water.xyz", cwd=tmp_path).stdout.splitlines()
    assert "engine" in said[-2]
    assert said[-1].endswith("wrote runs/water-relax/relaxed.extxyz")
    folder = tmp_path / "runs/water-relax"
    relaxed = read(folder / "relaxed.extxyz")
    assert relaxed.get_distance(0, 1) == pytest.approx(0.959, abs=0.005)
    assert (folder / "relax.png").stat().st_size > 1000
    labels = len(read(folder / "labels.extxyz", ":"))
    otf("relax", "water.xyz", cwd=tmp_path)
    assert len(read(folder / "labels.extxyz", ":")) <= labels + 1
    refused = otf("relax", "water.xyz", "--fmax", 1e-6, "--steps", 2, cwd=tmp_path, rc=1).stderr
    assert "not converged: the largest force is" in refused


@pytest.mark.full
def test_a_barrier_with_a_configuration(tmp_path):
    for name, column in (("first", 0.0), ("last", 0.5)):
        slab = fcc100("Al", size=(2, 2, 3))
        add_adsorbate(slab, "Au", 1.7, "hollow")
        slab.center(axis=2, vacuum=4.0)
        slab.set_constraint(FixAtoms(mask=[atom.tag > 1 for atom in slab]))
        slab.positions[-1, 0] += column * slab.cell[0, 0]
        slab.write(tmp_path / f"{name}.traj")
    (tmp_path / "hop.yaml").write_text(
        "system: {structure: first.traj}\n"
        "engine: {kind: ase, calculator: ase.calculators.emt:EMT}\ndynamics: {steps: 1}\n"
    )
    said = otf("neb", "hop.yaml", "last.traj", "--images", 3, cwd=tmp_path).stdout
    barrier_eV = float(said.partition("barrier ")[2].split()[0])
    assert barrier_eV == pytest.approx(0.374, abs=0.005)
    assert len(read(tmp_path / "runs/hop-neb/path.extxyz", ":")) == 5
    assert (tmp_path / "runs/hop-neb/path.png").exists()
    molecule("H2O").write(tmp_path / "other.xyz")
    refused = otf("neb", "hop.yaml", "other.xyz", cwd=tmp_path, rc=1).stderr
    assert "LAST: other.xyz holds OH2" in refused


def test_an_engine_without_an_answer_is_named_without_a_traceback(tmp_path):
    (tmp_path / "no.py").write_text(
        "from ase.calculators.emt import EMT\n\n\nclass No(EMT):\n"
        "    def calculate(self, *arguments, **keywords):\n"
        "        raise RuntimeError('no licence')\n"
    )
    (tmp_path / "c.yaml").write_text(
        "system: {molecule: CH4}\nengine: {kind: ase, calculator: 'no:No'}\ndynamics: {steps: 1}\n"
    )
    refused = otf("relax", "c.yaml", cwd=tmp_path, rc=1).stderr
    assert refused.splitlines()[-1].startswith("otf: RuntimeError: no licence")
    assert "Traceback" not in refused

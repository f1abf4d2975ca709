"""Models exported by ``otf export-lammps`` in a real LAMMPS under a real MPI."""

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest

import otf as package
from otf.lammps.plugin import compile_command, compile_plugin
from tests.cli.command import otf

pytestmark = pytest.mark.full  # LAMMPS

MPIRUN = shutil.which("mpirun", path=str(Path(sys.executable).parent))
CRYSTAL = """\
system: {bulk: {name: Al, a_A: 4.05}, repeat: [3, 3, 3]}
engine: {kind: ase, calculator: "ase.calculators.emt:EMT"}
dynamics: {ensemble: npt_full, steps: 80, timestep_fs: 2.0}
policy: {force_target_meV_A: 20}
"""
MOLECULE = """\
system: {molecule: CH3CH2OH}
engine: {kind: tblite}
dynamics: {steps: 100, timestep_fs: 0.5}
model: {sharing: environment}
"""
ALLOY = """\
system: {structure: alloy.xyz}
engine: {kind: ase, calculator: "ase.calculators.emt:EMT"}
dynamics: {steps: 60, timestep_fs: 2.0}
model: {body_order: 4, channels: 2, decay: 2}
"""
PROBE = """
import json
import numpy as np
world = MPI.COMM_WORLD
lmp.command("run 0")
n = lmp.extract_setting("nlocal")
parts = world.gather([np.array(lmp.numpy.extract_atom(k)[:n]).tolist() for k in ("id", "f", "x")])
found = {"energy": lmp.get_thermo("pe"), "parts": parts, "size": world.size}
found["pressure"] = [lmp.get_thermo(k) for k in ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz")]
found["drift"] = []
start = lmp.gather_atoms("x", 1, 3)
for steps, timestep in ((40, 0.0005), (80, 0.00025)):
    lmp.scatter_atoms("x", 1, 3, start)
    lmp.command("velocity all create 300 7 loop all mom yes")
    lmp.command(f"timestep {timestep}")
    total = []
    for _ in range(steps):
        lmp.command("run 1 post no")
        total.append(lmp.get_thermo("etotal"))
    found["drift"].append(float(np.std(total)))
if world.rank == 0:
    print("FOUND", json.dumps(found))
"""


SYSTEMS = {"crystal": CRYSTAL, "molecule": MOLECULE, "alloy": ALLOY}


@pytest.fixture(scope="module", params=SYSTEMS)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lammps")
    (folder / "c.yaml").write_text(SYSTEMS[request.param])
    alloy = ase.build.bulk("Cu", cubic=True).repeat((2, 2, 2))
    alloy.symbols[1::3], alloy.symbols[2::3] = "Ag", "Au"
    ase.io.write(folder / "alloy.xyz", alloy)
    otf("run", folder / "c.yaml", "--output", folder / "run")
    atoms = ase.io.read(folder / "run/start.traj")
    atoms.set_constraint()
    atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=atoms.positions.shape)
    if atoms.pbc.any():
        atoms.set_cell(atoms.cell.array @ np.diag([1.0, 1.02, 0.99]), scale_atoms=True)
    ase.io.write(folder / "moved.traj", atoms)
    said = otf(
        *("export-lammps", folder / "run", folder / "lmp", "--plugin"),
        *("--structure", folder / "moved.traj"),
    )
    assert said.stdout == f"{folder / 'lmp'}: mpirun -n 4 lmp -in in.lammps\n"
    return folder


@functools.cache
def run(folder: Path, ranks: int, script: str = "run.py") -> dict:
    head, _ = (folder / "lmp" / script).read_text().split("run 1000")
    if script == "in.lammps":
        opened = "from mpi4py import MPI\nfrom lammps import lammps\nlmp = lammps()\n"
        head = opened + 'lmp.commands_string("""' + head
    head = head.replace("lmp = lammps()", 'lmp = lammps(cmdargs=["-screen", "none"])')
    head = head.replace("atom_style atomic", "atom_style atomic\natom_modify map yes")
    head = head.replace("velocity all create 300 1 mom yes\n", "")
    (folder / "lmp/probe.py").write_text(head + '""")\n' + PROBE)
    done = subprocess.run(
        [MPIRUN, "-n", str(ranks), sys.executable, "probe.py"],
        cwd=folder / "lmp", capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.split("FOUND ")[1])


@pytest.mark.parametrize("script", ["run.py", "in.lammps"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_lammps_says_what_we_say(folder, ranks, script):
    found = run(folder, ranks, script)
    assert found["size"] == ranks
    atoms = ase.io.read(folder / "moved.traj")
    atoms.calc = package.load_model(folder / "run/model.h5")
    assert found["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    ids, forces, positions = (np.concatenate(p) for p in zip(*found["parts"]))
    assert sorted(ids) == list(range(1, len(atoms) + 1))
    forces, positions = forces[np.argsort(ids)], positions[np.argsort(ids)]
    # LAMMPS rotates the cell and wraps positions.
    placed = atoms.copy()
    if atoms.pbc.any():
        turned = ase.io.read(
            folder / "lmp/structure.data", format="lammps-data", units="metal", atom_style="atomic"
        )
        rotation = np.linalg.solve(atoms.cell.array, turned.cell.array)
        expected = atoms.get_forces() @ rotation
        stress = rotation.T @ atoms.get_stress(voigt=False) @ rotation
        order = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
        theirs = np.array(found["pressure"]) / 1.6021765e6  # bar, with LAMMPS's constant
        np.testing.assert_allclose(theirs, [-stress[a] for a in order], atol=1e-8)
    else:
        expected = atoms.get_forces()
        np.testing.assert_allclose(
            positions - positions[0], placed.positions - placed.positions[0], atol=1e-8
        )
    np.testing.assert_allclose(forces, expected, atol=1e-8)


@pytest.mark.parametrize("script", ["run.py", "in.lammps"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_energy_is_conserved_to_the_square_of_the_timestep(folder, ranks, script):
    coarse, fine = run(folder, ranks, script)["drift"]
    assert coarse / fine == pytest.approx(4.0, rel=0.5)


def test_an_error_in_the_middle_ends_all_ranks(folder):
    """Otherwise LAMMPS would continue with the forces of the previous step."""
    script = (folder / "lmp/run.py").read_text()
    broken = (
        "import otf.model.domain\notf.model.domain.Domain.evaluate = None\nlmp.command('run 1')\n"
    )
    (folder / "lmp/broken.py").write_text(
        script.split('lmp.commands_string("""\nvelocity')[0] + broken
    )
    done = subprocess.run(
        [MPIRUN, "-n", "2", sys.executable, "broken.py"],
        cwd=folder / "lmp", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "'NoneType' object is not callable" in done.stderr


def test_more_ranks_than_atoms_need(folder):
    """Some ranks have no atoms."""
    for script in ("run.py", "in.lammps"):
        one, many = run(folder, 1, script), run(folder, 5, script)
        assert many["energy"] == pytest.approx(one["energy"], abs=1e-8)


def test_atoms_beyond_the_faces_of_an_open_cell_are_put_into_a_box(tmp_path):
    atoms = ase.build.molecule("CH4")
    atoms.set_cell([3.0, 3.0, 3.0])
    ase.io.write(tmp_path / "m.xyz", atoms)
    (tmp_path / "c.yaml").write_text(
        "{system: {structure: m.xyz}, engine: {kind: tblite}, dynamics: {steps: 20}}"
    )
    otf("run", tmp_path / "c.yaml", "--output", tmp_path / "run")
    otf("export-lammps", tmp_path / "run", tmp_path / "lmp")
    assert run(tmp_path, 2)["size"] == 2


def test_what_cannot_be_exported_is_named(folder, tmp_path):
    assert "already exists" in otf("export-lammps", folder / "run", folder / "lmp", rc=1).stderr
    model = folder / "run/model.h5"
    assert "--structure FILE" in otf("export-lammps", model, tmp_path / "a", rc=1).stderr


def test_a_plugin_is_refused_with_the_coefficients_of_another_model(folder, tmp_path):
    shutil.copytree(folder / "lmp", tmp_path / "lmp")
    text = (folder / "lmp/model.otf").read_text()
    (tmp_path / "lmp/model.otf").write_text(text.replace("otf-1-", "otf-1-9", 1))
    done = subprocess.run(
        [MPIRUN, "-n", "1", Path(sys.executable).parent / "lmp", "-in", "in.lammps"],
        cwd=tmp_path / "lmp", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "the plugin was compiled for another model" in done.stdout + done.stderr


def test_a_plugin_that_does_not_compile_is_named_with_the_command(tmp_path):
    (tmp_path / "pair_otf.cpp").write_text("no C++\n")
    failure = compile_plugin(tmp_path)
    assert failure.startswith(" ".join(compile_command()))
    assert "pair_otf.cpp:1" in failure

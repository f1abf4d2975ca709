"""The i-PI engine with the real Quantum ESPRESSO and CP2K (Debian's packages)."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import ase.io.cube
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule

from otf.engines.contract import EngineContract
from otf.engines.ipi_client import Listener
from otf.engines.labels import LabelFailure, Labels
from otf.engines.registry import load_engine
from otf.errors import EngineError
from otf_ipi.cp2k import Cp2kInput
from otf_ipi.espresso import EspressoInput
from tests.cli.command import otf

pytestmark = pytest.mark.full

SILICON = """\
&CONTROL
  calculation = 'md', pseudo_dir = "{pseudo}", dt = 40.0, nstep = 200
/
&SYSTEM
  ibrav = 2, celldm(1) = 10.2, nat = 2, ntyp = 1, ecutwfc = 12.0,
  occupations = 'smearing', degauss = 0.01
/
&ELECTRONS
  conv_thr = 1d-10
/
&IONS
  ion_temperature = 'svr', tempw = 400
/
ATOMIC_SPECIES
  Si 28.086 Si.pz-vbc.UPF
ATOMIC_POSITIONS alat
  Si 0.00 0.00 0.00 0 0 0
  Si 0.25 0.25 0.25
K_POINTS gamma
"""
WATER = """\
&GLOBAL
  PROJECT water
  RUN_TYPE MD
&END GLOBAL
&MOTION
  &MD
    ENSEMBLE NVT
    TIMESTEP 0.5
    STEPS 300
    TEMPERATURE 330
    &THERMOSTAT
      TYPE CSVR
    &END THERMOSTAT
  &END MD
  &CONSTRAINT
    &FIXED_ATOMS
      LIST 1
    &END FIXED_ATOMS
  &END CONSTRAINT
&END MOTION
&FORCE_EVAL
  METHOD Quickstep
  &DFT
    BASIS_SET_FILE_NAME BASIS_MOLOPT
    POTENTIAL_FILE_NAME GTH_POTENTIALS
    &MGRID
      CUTOFF 250
    &END MGRID
    &SCF
      EPS_SCF 1e-7
      &OT
      &END OT
    &END SCF
    &XC
      &XC_FUNCTIONAL PADE
      &END XC_FUNCTIONAL
    &END XC
  &END DFT
  &SUBSYS
    &CELL
      ABC 5.0 5.0 5.0
    &END CELL
    &COORD
      O  2.5 2.5 2.6
      H1 2.5 3.2632 2.0037
      H2 2.5 1.7368 2.0037
    &END COORD
    &KIND O
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PADE
    &END KIND
    &KIND H1
      ELEMENT H
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PADE
    &END KIND
    &KIND H2
      ELEMENT H
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PADE
    &END KIND
  &END SUBSYS
&END FORCE_EVAL
"""
PSEUDO = "/usr/share/espresso/pseudo"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two inputs."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "si.in").write_text(SILICON.format(pseudo=PSEUDO))
    (folder / "water.inp").write_text(WATER)
    return folder


def rattled(atoms: Atoms, amplitude_A: float) -> Atoms:
    atoms.rattle(amplitude_A, seed=2)
    return atoms


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.set_cell([5.0, 5.0, 5.0])
    atoms.pbc = True
    return rattled(atoms, 0.05)


class TestQuantumEspresso(EngineContract):
    kind = "ipi"
    structure = rattled(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.2]]), 0.03)
    crystal = rattled(bulk("Si", cubic=True), 0.05)
    noise = 2e-2  # of the grid, at this cutoff
    force_tolerance = 5e-3
    stress_tolerance = 5e-4

    @pytest.fixture(autouse=True)
    def template(self, inputs: Path) -> None:
        type(self).options = {"command": "pw.x", "template": str(inputs / "si.in"), "vacuum_A": 4.0}


class TestCp2k(EngineContract):
    kind = "ipi"
    structure = water()
    crystal = water()
    noise = 0.2  # of the grid
    force_tolerance = 2e-2
    stress_tolerance = 2e-3
    step = 1e-2

    @pytest.fixture(autouse=True)
    def template(self, inputs: Path) -> None:
        type(self).options = {"command": "cp2k", "template": str(inputs / "water.inp")}


def engine(template: Path, **options: object):
    """An engine for an input file, with the program it is for."""
    engine_class = load_engine("ipi")
    command = "pw.x" if template.suffix == ".in" else "cp2k"
    given = {"command": command, "template": template} | options
    return engine_class(engine_class.Options.model_validate(given), charge=0, spin=0)


def test_the_jobs_in_input_files(inputs):
    si = load_engine("ipi").job(inputs / "si.in")
    assert si.atoms.cell.lengths() == pytest.approx([10.2 * 0.529177 / np.sqrt(2)] * 3, abs=1e-4)
    assert si.atoms.positions[1] == pytest.approx([10.2 * 0.529177 / 4] * 3, abs=1e-4)
    assert list(si.atoms.constraints[0].index) == [0]
    assert {key: given.value for key, given in si.dynamics.items()} == {
        "ensemble": "csvr",
        "temperature_K": 400.0,
        "timestep_fs": pytest.approx(1.935107),
        "steps": 200,
    }
    water = load_engine("ipi").job(inputs / "water.inp")
    assert water.atoms.get_chemical_formula() == "H2O"
    assert water.atoms.cell.lengths() == pytest.approx([5.0] * 3)
    assert list(water.atoms.constraints[0].index) == [0]
    assert {key: given.value for key, given in water.dynamics.items()} == {
        "ensemble": "csvr",
        "temperature_K": 330.0,
        "timestep_fs": 0.5,
        "steps": 300,
    }


def test_symmetries_of_an_ideal_first_structure_are_not_kept(inputs, tmp_path):
    ideal, distorted = bulk("Si", cubic=True), TestQuantumEspresso.crystal
    answers = []
    for first in (ideal, distorted):
        running = engine(inputs / "si.in")
        running.open(first, tmp_path / str(len(answers)))
        running.label(first, index=0)
        answers.append(running.label(distorted, index=1))
        running.close()
    np.testing.assert_allclose(answers[0].forces, answers[1].forces, atol=1e-4)
    assert answers[0].energy == pytest.approx(answers[1].energy, abs=1e-5)


def test_k_points_in_units_of_the_lattice_constant_stay_the_same_points(inputs, tmp_path):
    """A lattice by ibrav becomes three vectors, whose length is another unit of k points."""
    atoms = load_engine("ipi").job(inputs / "si.in").atoms
    energies = []
    # The same point, X, in both units; the primitive cell of 2 atoms.
    for points in ("tpiba\n1\n0.0 0.0 1.0 1.0", "crystal\n1\n0.5 0.5 0.0 1.0"):
        template = tmp_path / f"{len(energies)}.in"
        template.write_text(
            SILICON.format(pseudo=PSEUDO).replace("K_POINTS gamma", f"K_POINTS {points}")
        )
        running = engine(template)
        running.open(atoms, tmp_path / f"scratch{len(energies)}")
        energies.append(running.label(atoms, index=0).energy)
        running.close()
    assert energies[0] == pytest.approx(energies[1], abs=1e-5)


def test_a_cell_that_changed_much_gets_a_basis_set_of_its_own(inputs, tmp_path):
    atoms = TestQuantumEspresso.crystal
    smaller = atoms.copy()
    smaller.set_cell(0.95 * atoms.cell.array, scale_atoms=True)
    energies = []
    for first in (atoms, smaller):
        running = engine(inputs / "si.in")
        running.open(atoms, tmp_path / str(len(energies)))
        running.label(first, index=0)
        energies.append(running.label(smaller, index=1).energy)
        running.close()
    assert energies[0] == pytest.approx(energies[1], abs=1e-5)


@pytest.mark.parametrize("name", ["si.in", "water.inp"])
def test_unconverged_results_are_not_labels(inputs, tmp_path, name):
    """pw.x crashes when SCF does not converge; CP2K sends the results."""
    template = tmp_path / name
    text = (inputs / name).read_text()
    text = text.replace("conv_thr = 1d-10", "conv_thr = 1d-10, electron_maxstep = 3")
    template.write_text(text.replace("EPS_SCF 1e-7", "EPS_SCF 1e-7\n      MAX_SCF 3"))
    atoms = TestQuantumEspresso.crystal if name == "si.in" else water()
    running = engine(template)
    running.open(atoms, tmp_path / "scratch")
    tried: list[str] = []
    while isinstance(answer := running.label(atoms, index=0, remedies=tried), LabelFailure):
        assert "SCF not converged" in answer.reason
        assert answer.remedy is not None, "no remedy is left"
        tried.append(answer.remedy)
    running.close()
    assert tried[-1] == "more iterations"
    assert answer.scf_iterations > 3


@pytest.mark.parametrize("name", ["si.in", "water.inp"])
def test_a_process_killed_in_a_label_is_started_again(inputs, tmp_path, name):
    atoms = TestQuantumEspresso.crystal if name == "si.in" else water()
    script = tmp_path / "once.sh"  # the first process is killed in its label
    killing = (
        "until grep -qE 'iteration #|SCF WAVEFUNCTION' output; do sleep 0.01; done; kill -9 $$"
    )
    script.write_text(
        f'#!/bin/sh\nmkdir {tmp_path}/once 2> /dev/null && ({killing}) &\nexec "$@"\n'
    )
    script.chmod(0o755)
    running = engine(inputs / name, command=f"{script} {'pw.x' if name == 'si.in' else 'cp2k'}")
    running.open(atoms, tmp_path / "scratch")
    killed = running.label(atoms, index=0)
    again = running.label(atoms, index=0, remedies=[killed.remedy])
    running.close()
    assert "killed" in killed.reason
    assert isinstance(again, Labels)


def test_an_error_of_the_program_is_the_reason(inputs, tmp_path):
    template = tmp_path / "si.in"
    template.write_text(SILICON.format(pseudo=PSEUDO).replace("vbc", "none"))
    running = engine(template)
    running.open(TestQuantumEspresso.crystal, tmp_path / "scratch")
    answer = running.label(TestQuantumEspresso.crystal, index=0)
    running.close()
    assert "Si.pz-none.UPF" in answer.reason
    assert "not found" in answer.reason


def test_bad_inputs_are_refused_with_their_cause(inputs, tmp_path):
    bad = tmp_path / "bad.inp"
    bad.write_text(WATER.replace("RUN_TYPE MD", "RUN_TIPE MD"))
    with pytest.raises(EngineError, match="invalid keyword 'RUN_TIPE'"):
        engine(bad, command="cp2k").open(water(), tmp_path / "scratch")
    with pytest.raises(EngineError, match=r"si\.in: 0 species are C"):
        engine(inputs / "si.in").open(bulk("C"), tmp_path / "scratch")


CONFIG = """\
system:
  from: {template}
engine:
  kind: ipi
  command: {command}
  template: {template}
dynamics:
  steps: 200
policy:
  force_target_meV_A: 40
"""


@pytest.mark.parametrize("name", ["si.in", "water.inp"])
def test_a_run_of_200_steps_killed_and_resumed(inputs, tmp_path, name):
    """kill -9 during the labels; what is resumed pays for no label twice."""
    text = (inputs / name).read_text()
    (tmp_path / name).write_text(text.replace(" 0 0 0\n", "\n"))  # both atoms move
    command = "pw.x" if name == "si.in" else "cp2k"
    (tmp_path / "run.yaml").write_text(CONFIG.format(template=name, command=command))
    labels = tmp_path / "runs" / "run" / "labels.extxyz"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "otf", "run", "run.yaml"], cwd=tmp_path, stdout=log, stderr=log
        )
        until = time.monotonic() + 120
        while count(labels) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        process.kill()
        process.wait()
    before = labels.read_text()
    assert count(labels) >= 3, (tmp_path / "log").read_text()
    ended = otf("resume", tmp_path / "runs" / "run")
    assert "200 steps" in ended.stdout, ended.stdout
    assert labels.read_text().startswith(before)
    assert count(labels) < 60
    assert not list(Path("/tmp").glob(f"ipi_otf_{os.getpid()}_*"))


def count(labels: Path) -> int:
    return labels.read_text().count("Lattice=") if labels.exists() else 0


def test_densities_of_quantum_espresso_are_learned(inputs, tmp_path):
    """Cubes by pp.x, learned point by point."""
    cubes = []
    for seed in range(4):
        atoms = rattled(bulk("Si"), 0.0)
        atoms.rattle(0.04, seed=seed)
        ase.io.write(tmp_path / f"{seed}.xyz", atoms, format="extxyz")
        given = EspressoInput(SILICON.format(pseudo=PSEUDO), "si.in", tmp_path)
        with contextlib.closing(Listener("unix", "")) as listener:
            text = given.prepared(atoms, ["Si", "Si"], listener, ())
        (tmp_path / "pw.in").write_text(text.replace("'vc-md'", "'scf'"))
        (tmp_path / "pp.in").write_text(
            "&INPUTPP\n outdir = './', filplot = 'rho', plot_num = 0\n/\n"
            f"&PLOT\n iflag = 3, output_format = 6, fileout = '{seed}.cube'\n/\n"
        )
        for program in ("pw", "pp"):
            subprocess.run(
                [f"{program}.x", "-in", f"{program}.in"],
                cwd=tmp_path,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        cubes.append(tmp_path / f"{seed}.cube")
    learned = [part for cube in cubes[:3] for part in ("--learn", cube)]
    target = tmp_path / "out.cube"
    printed = otf("analyse", "density", tmp_path / "3.xyz", *learned, "--volume", target).stdout
    assert "learned from 3 densities" in printed
    with target.open() as file:
        density = ase.io.cube.read_cube(file)["data"]
    electrons = density.mean() * bulk("Si").get_volume() / units.Bohr**3
    assert electrons == pytest.approx(8.0, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ("", ""),
        ("lelfield = .true.,", "lelfield"),
        ("tefield = .true.,", "tefield"),
        ("dipfield = .true., tefield = .true.,", "tefield"),
    ],
)
def test_external_fields_are_found(settings, field):
    text = SILICON.format(pseudo="/p").replace("&CONTROL\n", f"&CONTROL\n{settings}\n")
    assert EspressoInput(text, "pw.in", Path()).field == field
    corrected = text.replace("ibrav = 2,", "ibrav = 2, eamp = 0.0,")  # a dipole correction
    assert EspressoInput(corrected, "pw.in", Path()).field == field.replace("tefield", "")
    found = (
        Cp2kInput(WATER, "a.inp", Path()).field,
        Cp2kInput(
            WATER.replace("&DFT\n", "&DFT\n&PERIODIC_EFIELD\nINTENSITY 0.01\n&END\n"),
            "a.inp",
            Path(),
        ).field,
    )
    assert found == ("", "&PERIODIC_EFIELD")

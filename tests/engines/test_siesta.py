"""SIESTA: captured outputs, named failures, and the program as a subprocess."""

import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import ClassVar

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from otf.config import read_config
from otf.engines.asking import ask
from otf.engines.contract import EngineContract
from otf.engines.failures import FROM_SCRATCH, MORE_ITERATIONS, ONCE_MORE, SAFE_MIXING, diagnose
from otf.engines.labels import LabelFailure, Labels
from otf.engines.process import Finished
from otf.engines.registry import load_engine
from otf.errors import EngineError
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.session import run_session
from otf_siesta import fdf, output
from otf_siesta.failures import KNOWN, Evidence
from otf_siesta.geometry import read_structure
from otf_siesta.options import gamma_only
from tests.engines.siesta_standin import GOLDEN, STANDIN, pseudopotentials

CONVERGED = sorted(path.parent.name for path in GOLDEN.glob("*/FORCE_STRESS"))
RY, BOHR = 13.60580, 0.529177


def starts(tmp_path: Path) -> int:
    """Number of times the program was started."""
    return len((tmp_path / "memory" / "calls").read_text().split())


# Captures


@pytest.mark.parametrize("case", CONVERGED)
def test_captured_run_is_read_to_the_digits_it_prints(case):
    folder = GOLDEN / case
    answer = output.read_force_stress((folder / "FORCE_STRESS").read_text())
    text = (folder / "siesta.out").read_text(errors="replace")
    # The output prints the free energy and .FA the forces a second time, in eV.
    free = re.findall(r"scf:\s+\d+\s+\S+\s+\S+\s+(\S+)", text)
    assert answer.energy == pytest.approx(float(free[-1]), abs=2e-3 if case[0] in "cj" else 2e-5)
    if (folder / "siesta.FA").exists():
        rows = np.loadtxt(folder / "siesta.FA", skiprows=1)[:, 1:]
        np.testing.assert_allclose(answer.forces, rows, atol=6e-7)
    lines = re.findall(r"\(static\) \(eV/Ang\*\*3\):\n((?:siesta: .*\n){3})", text)
    if lines:
        rows = [[float(x) for x in line.split()[1:]] for line in lines[-1].splitlines()]
        np.testing.assert_allclose(answer.stress, rows, atol=1e-6)


@pytest.mark.parametrize("temperature_K", [300, 1000])
def test_energy_of_a_metal_is_the_free_energy_of_its_forces(temperature_K):
    """Two magnesium atoms, 2x2x2 k points, the first displaced by 0.02 Angstrom along x."""
    minus, here, plus = (
        output.read_force_stress(
            (GOLDEN / "m_mg_smeared" / f"FORCE_STRESS.{temperature_K}.{name}").read_text()
        )
        for name in ("minus", "0", "plus")
    )
    slope = (plus.energy - minus.energy) / 0.04
    assert -slope == pytest.approx(here.forces[0, 0], abs=1e-3)
    assert abs(slope) > 0.2


@pytest.mark.parametrize("case", [c for c in CONVERGED if c[0] not in "fj"])
def test_positions_are_echoed_to_nine_digits(case):
    atoms = read_structure(fdf.read(GOLDEN / case / "siesta.fdf"))
    echoed = output.read_positions((GOLDEN / case / "siesta.XV").read_text())
    np.testing.assert_allclose(echoed, atoms.positions, atol=1e-9)
    assert atoms.pbc.all()


def test_iterations_and_version():
    text = (GOLDEN / "f_ch4_md20" / "siesta.out").read_text(errors="replace")
    assert output.read_iterations(text) == 6
    assert output.read_version(text).startswith("v4.1-b4")
    assert output.read_iterations("") is None
    assert output.read_version("") == ""
    assert output.read_version("Executable      : siesta\nVersion         : 5.4.2\n") == "5.4.2"


@pytest.mark.parametrize("lines", [0, 3, 6])
def test_truncated_force_stress_is_no_answer(lines):
    text = (GOLDEN / "a_ch4_converged" / "FORCE_STRESS").read_text()
    assert output.read_force_stress("\n".join(text.splitlines()[:lines])) is None


def evidence(case: str, code: int, *, answered=False, completed=False, warm=False) -> Evidence:
    texts = []
    for name in ("siesta.out", "siesta.err", "MESSAGES"):
        path = GOLDEN / case / name
        texts.append(path.read_text(errors="replace") if path.exists() else "")
    return Evidence(Finished(code, False, 1.0), *texts, answered, completed, warm)


@pytest.mark.parametrize(
    ("case", "code", "name", "words", "remedy"),
    [
        ("c_scf_not_converged", -6, "SCF not converged", "after 3 iterations", SAFE_MIXING),
        ("c_scf_not_converged", 134, "SCF not converged", "after 3 iterations", SAFE_MIXING),
        ("c2_scf_not_converged_allowed", 0, "SCF not converged", "after 3", SAFE_MIXING),
        ("d_missing_pseudo", -6, "pseudopotential not found", "C.psf", None),
        ("bad_fdf_block", 0, "bad input", "GeometryConstraints not found", None),
        ("bad_fdf_number", 0, "bad input", "no integer value for MaxSCFIterations", None),
        ("bad_fdf_unit", 0, "bad input", "unknown unit = foo", None),
        ("bad_fdf_value", -6, "aborted", "GGAXC: Unknown author XYZ", None),
        ("too_few_atoms", -6, "aborted", "AtomicCoordinatesAndAtomicSpecies", None),
        ("walltime", -6, "out of time", "OUT_OF_TIME", None),
        ("e_killed", -9, "killed", "signal 9", ONCE_MORE),
        ("e2_sigterm", -15, "killed", "signal 15", ONCE_MORE),
        ("e3_killed_early", 137, "killed", "signal 9", ONCE_MORE),
        ("e_killed", 0, "incomplete output", "no complete FORCE_STRESS", None),
    ],
)
def test_captured_failure_has_its_name(case, code, name, words, remedy):
    answered = (GOLDEN / case / "FORCE_STRESS").exists()
    failure = diagnose("SIESTA", KNOWN, evidence(case, code, answered=answered), (), "/run/here")
    assert failure.reason.startswith(f"SIESTA, {name}: ")
    assert words in failure.reason
    assert "/run/here" in failure.advice
    assert failure.remedy == remedy


@pytest.mark.parametrize(
    ("case", "code", "name"),
    [("j_md_crash_nsc_history", -6, "changed supercell"), ("corrupt_DM", 2, "unreadable density")],
)
def test_what_the_density_matrix_broke_begins_anew(case, code, name):
    failure = diagnose("SIESTA", KNOWN, evidence(case, code, warm=True), (), "d")
    assert name in failure.reason
    assert failure.remedy == FROM_SCRATCH


def test_remedies_come_one_by_one_and_end():
    tried = []
    shown = evidence("c_scf_not_converged", -6, warm=True)
    while (failure := diagnose("SIESTA", KNOWN, shown, tried, "d")).remedy is not None:
        tried.append(failure.remedy)
    assert tried == [FROM_SCRATCH, SAFE_MIXING, MORE_ITERATIONS]
    assert len({known.name for known in KNOWN}) == len(KNOWN)


def test_good_captures_show_no_failure():
    for case in CONVERGED:
        if case[0] in "abfghi":
            good = evidence(case, 0, answered=True, completed=True)
            assert diagnose("SIESTA", KNOWN, good, (), "d") is None


# Input files


def test_names_are_equal_as_fdf_says_and_the_first_counts(tmp_path):
    path = tmp_path / "job.fdf"
    path.write_text(
        "mesh_cutoff = 200 Ry  # fine\nMeshCutoff 100 Ry\nSaveRho\nDM.UseSaveDM .true.\n"
    )
    deck = fdf.read(path)
    assert deck.value("Mesh-Cutoff") == "200 Ry"
    assert deck.flag("Save.Rho")
    assert deck.flag("dm.usesavedm")
    assert deck.unknown() == []
    changed = deck.copy()
    changed.put("MeshCutoff", "300 Ry")
    changed.drop("SaveRho")
    assert changed.changes_from(deck) == [
        "job.fdf:1: mesh_cutoff 200 Ry → 300 Ry",
        "job.fdf:3: SaveRho left out",
    ]


def test_included_files_become_part_of_the_whole_text(tmp_path):
    (tmp_path / "job.fdf").write_text(
        "%include basis.fdf\n%block AtomicCoordinatesAndAtomicSpecies < here.xyz\n"
        "%block ChemicalSpeciesLabel < species.fdf\nMeshCutoff 99 Ry\n"
    )
    (tmp_path / "basis.fdf").write_text("PAO.BasisSize SZ\n# nothing\nMeshCutoff 150 Ry\n")
    (tmp_path / "here.xyz").write_text("0 0 0 1\n")
    (tmp_path / "species.fdf").write_text(
        "%block ChemicalSpeciesLabel\n1 1 H\n%endblock ChemicalSpeciesLabel\nSaveRho T\n"
    )
    whole = tmp_path / "whole" / "job.fdf"
    whole.parent.mkdir()
    whole.write_text(fdf.whole_text(tmp_path / "job.fdf"))
    for deck in (fdf.read(tmp_path / "job.fdf"), fdf.read(whole)):
        assert deck.value("PAO.BasisSize") == "SZ"
        assert deck.value("MeshCutoff") == "150 Ry"
        assert deck.block("AtomicCoordinatesAndAtomicSpecies") == ("0 0 0 1",)
        assert deck.block("ChemicalSpeciesLabel") == ("1 1 H",)
        assert deck.value("SaveRho") is None
    plain = tmp_path / "basis.fdf"
    assert fdf.whole_text(plain) == plain.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%block Zmatrix\n 1\n", r"job.fdf:1: %block Zmatrix is never closed"),
        ("SaveRho T\n%endblock X\n", r"job.fdf:2: ends a block that was not begun"),
        ("\n%include none.fdf\n", r"job.fdf:2: there is no file .*none.fdf"),
        ("%include job.fdf\n", r"include each other"),
        ("MeshCutoff < other.fdf\n", r"job.fdf:1: there is no file .*other.fdf"),
        ("%block\n", r"job.fdf:1: %block has no name"),
    ],
)
def test_broken_inputs_name_their_line(tmp_path, text, message):
    path = tmp_path / "job.fdf"
    path.write_text(text)
    with pytest.raises(EngineError, match=message):
        fdf.read(path)


CELL = "%block LatticeVectors\n 2 0 0\n 0 2 0\n 0 0 3\n%endblock LatticeVectors\n"
SPECIES = "%block ChemicalSpeciesLabel\n 1 1 Hd\n%endblock ChemicalSpeciesLabel\n"
ATOM = "%block AtomicCoordinatesAndAtomicSpecies\n 0.5 0.25 0.5 1\n%endblock Atom\n"


@pytest.mark.parametrize(
    ("keywords", "position"),
    [
        ("LatticeConstant 4 Ang\nAtomicCoordinatesFormat Ang\n" + CELL, (0.5, 0.25, 0.5)),
        ("LatticeConstant 4 Ang\n" + CELL, (0.5 * BOHR, 0.25 * BOHR, 0.5 * BOHR)),
        ("LatticeConstant 4 Ang\nAtomicCoordinatesFormat Fractional\n" + CELL, (4, 2, 6)),
        ("LatticeConstant 0.4 nm\nAtomicCoordinatesFormat ScaledCartesian\n" + CELL, (2, 1, 2)),
        (
            "LatticeConstant 4 Ang\nAtomicCoordinatesFormat ScaledByLatticeVectors\n"
            "%block LatticeParameters\n 2 2 3 90 90 90\n%endblock LatticeParameters\n",
            (4, 2, 6),
        ),
    ],
)
def test_structure_in_every_format(tmp_path, keywords, position):
    path = tmp_path / "job.fdf"
    mass = "%block AtomicMass\n 1 2.014\n%endblock AtomicMass\n"
    path.write_text(SPECIES + ATOM + mass + keywords)
    atoms = read_structure(fdf.read(path))
    np.testing.assert_allclose(atoms.positions, [position])
    np.testing.assert_allclose(atoms.cell.lengths(), (8, 8, 12))
    assert atoms.get_masses().tolist() == [2.014]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SPECIES + ATOM + "AtomicCoordinatesFormat Fractional\n", "needs a LatticeConstant"),
        (SPECIES + "LatticeConstant 4 Ang\n", "has no block AtomicCoordinatesAndAtomicSpecies"),
        (SPECIES + ATOM + "LatticeConstant 4 miles\n", "is not a number in"),
        (ATOM, "has no block ChemicalSpeciesLabel"),
        (
            SPECIES + ATOM + "LatticeConstant 4 Ang\n%block SuperCell\n2 0 0\n%endblock\n",
            "SuperCell has not three rows",
        ),
    ],
)
def test_structures_that_cannot_be_read(tmp_path, text, message):
    path = tmp_path / "job.fdf"
    path.write_text(text)
    with pytest.raises(EngineError, match=message):
        read_structure(fdf.read(path))


@pytest.mark.parametrize(
    ("text", "gamma"),
    [
        ("", True),
        ("kgrid_cutoff 10 Ang\n", False),
        ("%block kgrid.MonkhorstPack\n1 0 0 0.\n0 1 0 0.\n0 0 1 0.\n%endblock\n", True),
        ("%block kgrid_Monkhorst_Pack\n2 0 0 0.5\n0 1 0 0.\n0 0 1 0.\n%endblock\n", False),
    ],
)
def test_gamma_point_is_recognised(tmp_path, text, gamma):
    path = tmp_path / "job.fdf"
    path.write_text(text)
    assert gamma_only(fdf.read(path)) == gamma


# The program as a subprocess


class TestSiestaContract(EngineContract):
    kind = "siesta"
    structure = molecule("H2O")
    crystal: ClassVar[Atoms] = bulk("C", cubic=True, a=3.6)
    stress_tolerance = 5e-4
    connection = "unix"

    @pytest.fixture(autouse=True)
    def standin(self, tmp_path, monkeypatch):
        program = tmp_path / "bin" / "siesta"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\nexec {sys.executable} {STANDIN} compute {tmp_path}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")
        type(self).options = {
            "pseudo_path": str(pseudopotentials(tmp_path)),
            "connection": self.connection,
        }


class TestSiestaProcessContract(TestSiestaContract):
    connection = "process"


@pytest.mark.parametrize("connection", ["unix", "inet", "process"])
def test_warm_start_begins_from_the_last_label_and_only_from_that(
    tmp_path, siesta, open_siesta, connection
):
    atoms = molecule("CH4")
    engine = open_siesta(siesta(connection=connection), atoms)
    assert [engine.label(atoms, index=i).scf_iterations for i in range(3)] == [9, 4, 4]
    assert starts(tmp_path) == (3 if connection == "process" else 1)
    engine.close()
    again = open_siesta(siesta(connection=connection), atoms)  # as after a resume
    assert again.label(atoms, index=3).scf_iterations == 4
    assert again.label(atoms, index=9).scf_iterations == 9  # there is no label 8
    other = open_siesta(siesta(connection=connection, basis="SZP"), atoms)
    assert other.label(atoms, index=10).scf_iterations == 9  # other orbitals
    assert len(list((tmp_path / "s").glob("label-*"))) == 1
    assert not list(Path("/tmp").glob(f"ipi_otf_{os.getpid()}_*"))


def test_label_does_not_depend_on_how_siesta_is_asked(siesta, open_siesta):
    atoms = molecule("CH4")
    atoms.rattle(0.05, seed=3)
    labels = [
        open_siesta(siesta(connection=connection), atoms, connection).label(atoms, index=0)
        for connection in ("unix", "inet", "process")
    ]
    for other in labels[1:]:
        assert other.energy == labels[0].energy
        assert other.forces.tobytes() == labels[0].forces.tobytes()
        assert other.stress is not None


@pytest.mark.parametrize("connection", ["unix", "process"])
def test_siesta_5_has_other_units(siesta, open_siesta, connection):
    """Its bohr and Rydberg are those of CODATA 2018; positions echoed show another bohr."""
    atoms = molecule("CH4")
    atoms.rattle(0.05, seed=3)
    old, new = (
        open_siesta(siesta(mode, connection=connection), atoms, mode).label(atoms, index=0)
        for mode in ("compute", "five")
    )
    assert "SIESTA 5.4.2" in new.provenance
    assert new.energy == pytest.approx(old.energy, abs=1e-7)
    np.testing.assert_allclose(new.forces, old.forces, atol=1e-6)
    np.testing.assert_allclose(new.stress, old.stress, atol=1e-7)


def test_keywords_and_named_pseudopotentials_of_siesta_5(tmp_path, siesta, open_siesta, caplog):
    template = tmp_path / "job.fdf"
    template.write_text(
        """NumberOfSpecies 2
%block ChemicalSpeciesLabel
1 6 C dojo/C.psml
2 1 H dojo/H
%endblock ChemicalSpeciesLabel
DFTD3 T
Wannier.Manifold.valence 4
"""
    )
    atoms = molecule("CH4")
    given = siesta("compute") | {"template": template, "pseudo_path": tmp_path}
    for key in ("basis", "xc", "mesh_cutoff_ry", "kpoints"):
        given.pop(key, None)
    with pytest.raises(EngineError, match=r"has no dojo/C\.psml, which ChemicalSpeciesLabel names"):
        open_siesta(given, atoms)
    (tmp_path / "dojo").mkdir()
    for name in ("C.psml", "H.psml"):
        (tmp_path / "dojo" / name).write_text("")
    assert isinstance(open_siesta(given, atoms).label(atoms, index=0), Labels)
    assert "DFTD3 is a keyword of SIESTA 5, which this one ignores" in caplog.text
    (linked,) = (tmp_path / "s").glob("server-*/dojo/H.psml")
    assert linked.resolve() == tmp_path / "dojo" / "H.psml"


@pytest.mark.parametrize("connection", ["unix", "process"])
def test_ghosts_of_a_template_keep_their_rows_and_places(tmp_path, siesta, open_siesta, connection):
    template = tmp_path / "job.fdf"
    template.write_text(
        """NumberOfAtoms 4
%block ChemicalSpeciesLabel
1 8 O
2 1 H
3 -1 C
%endblock ChemicalSpeciesLabel
LatticeConstant 8.0 Ang
AtomicCoordinatesFormat Ang
%block AtomicCoordinatesAndAtomicSpecies
 4.0 4.0 4.0 1
 4.5 5.0 2.5 3
 4.8 4.6 4.0 2
 3.2 4.6 4.0 2
%endblock AtomicCoordinatesAndAtomicSpecies
"""
    )
    atoms = Atoms("OH2", [(4.1, 4, 4), (4.9, 4.6, 4), (3.3, 4.6, 4)], cell=[8, 8, 8], pbc=True)
    engine = open_siesta(siesta(connection=connection, template=template), atoms)
    assert not engine.capabilities.stress
    assert not engine.capabilities.matrices
    labels = engine.label(atoms, index=0)
    assert labels.forces.shape == (3, 3)
    (written,) = (tmp_path / "s").glob("*/otf.fdf" if connection == "process" else "s*/otf.fdf")
    whole = read_structure(fdf.read(written))
    assert str(whole.symbols) == "OXH2"
    np.testing.assert_allclose(whole.positions[1], (4.5, 5.0, 2.5))
    np.testing.assert_allclose(np.delete(whole.positions, 1, axis=0), atoms.positions)


@pytest.mark.parametrize(("field", "warned"), [("0.0 0.0 0.5 V/Ang", True), ("0 0 0 V/Ang", False)])
def test_an_external_field_is_warned_of(siesta, open_siesta, caplog, field, warned):
    open_siesta(siesta(keywords={"ExternalElectricField": [field]}), molecule("CH4"))
    assert ("ExternalElectricField: in an external field" in caplog.text) == warned


def test_server_is_said_goodbye(tmp_path, siesta, open_siesta):
    atoms = molecule("CH4")
    engine = open_siesta(siesta(), atoms)
    engine.label(atoms, index=0)
    engine.close()
    assert (tmp_path / "s" / "server-000000" / "goodbye").exists()


def test_server_that_left_between_labels_is_replaced(tmp_path, siesta, open_siesta):
    atoms = molecule("CH4")
    engine = open_siesta(siesta("leaves"), atoms)
    answers = []
    for index in range(3):
        answers.append(ask(engine, atoms, index=index))
        time.sleep(0.2)
    assert all(isinstance(answer, Labels) for answer in answers)
    assert [answer.scf_iterations for answer in answers] == [9, 4, 4]
    assert starts(tmp_path) == 3


@pytest.mark.parametrize("connection", ["unix", "process"])
@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("unconverged", "SCF not converged: no convergence after 9 iterations"),
        ("silent-unconverged", "SCF not converged"),
        ("dies", "killed: ended by signal 9"),
        ("garbage", "incomplete output: no complete FORCE_STRESS"),
        ("stale", "positions echoed back are off"),
        ("nan", "not finite"),
        ("d_missing_pseudo:6", "pseudopotential not found"),
        ("bad_fdf_unit:0", "unknown unit = foo"),
        ("bad_fdf_value:6", "GGAXC: Unknown author XYZ"),
        ("walltime:6", "out of time"),
    ],
)
def test_failing_program_gives_a_failure_with_its_reason(
    tmp_path, siesta, open_siesta, mode, reason, connection
):
    atoms = molecule("CH4")
    engine = open_siesta(siesta(mode, connection=connection), atoms)
    answer = ask(engine, atoms, index=0)
    assert isinstance(answer, LabelFailure)
    assert reason in answer.reason
    assert str(tmp_path / "s") in answer.advice


@pytest.mark.parametrize("connection", ["unix", "process"])
@pytest.mark.parametrize("mode", ["once-dies", "once-unconverged", "once-silent-unconverged"])
def test_remedy_saves_the_label(tmp_path, siesta, open_siesta, mode, connection):
    atoms = molecule("CH4")
    engine = open_siesta(siesta(mode, connection=connection), atoms)
    assert isinstance(ask(engine, atoms, index=0), Labels)
    assert starts(tmp_path) == 2
    assert ask(engine, atoms, index=1).scf_iterations == 4


def test_remedied_input_serves_one_label_only(tmp_path, siesta, open_siesta):
    atoms = molecule("CH4")
    engine = open_siesta(siesta("once-unconverged"), atoms)
    ask(engine, atoms, index=0)
    ask(engine, atoms, index=1)
    inputs = [fdf.read(path) for path in sorted((tmp_path / "s").glob("server-*/otf.fdf"))]
    assert [deck.value("SCF.Mixer.Weight") for deck in inputs[-2:]] == ["0.05", None]
    assert inputs[-2].value("MaxSCFIterations") == "400"


def test_unreadable_density_matrix_is_dropped(tmp_path, siesta, open_siesta):
    atoms = molecule("CH4")
    engine = open_siesta(siesta("warm-corrupt"), atoms)
    assert isinstance(ask(engine, atoms, index=0), Labels)
    assert ask(engine, atoms, index=1).scf_iterations == 9


@pytest.mark.parametrize("connection", ["unix", "process"])
def test_hanging_program_is_ended_with_its_children(tmp_path, siesta, open_siesta, connection):
    atoms = molecule("CH4")
    engine = open_siesta(siesta("hang", timeout_s=2.0, connection=connection), atoms)
    answer = engine.label(atoms, index=0, remedies=(ONCE_MORE,))
    assert "SIESTA, hangs: no end after" in answer.reason
    assert answer.remedy is None
    (child,) = (tmp_path / "s").glob("*/child.pid")
    until = time.monotonic() + 10
    status = Path(f"/proc/{child.read_text()}/stat")
    while time.monotonic() < until and status.exists() and status.read_text().split()[2] != "Z":
        time.sleep(0.05)
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_extrapolating_server_begins_anew_where_its_history_does_not_fit(
    tmp_path, siesta, open_siesta
):
    atoms = molecule("CH4")
    engine = open_siesta(siesta(history_depth=3), atoms)
    for index in (0, 1, 1):
        engine.label(atoms, index=index)
    assert starts(tmp_path) == 2  # the second label 1 does not continue the server's history
    k_points = siesta(history_depth=3, kpoints=[2, 1, 1])
    with pytest.raises(EngineError, match="history_depth"):
        open_siesta(k_points, atoms, "k")


def test_density_matrix_that_was_not_written_costs_a_warm_start_only(tmp_path, siesta, open_siesta):
    atoms = molecule("CH4")
    engine = open_siesta(siesta("without-matrix"), atoms)
    assert [ask(engine, atoms, index=i).scf_iterations for i in range(2)] == [9, 9]


def test_input_has_full_precision(tmp_path, siesta, open_siesta):
    atoms = molecule("CH4")
    atoms.positions += 1.0 / 3.0
    open_siesta(siesta(connection="process"), atoms).label(atoms, index=0)
    deck = fdf.read(tmp_path / "s" / "label-000000" / "otf.fdf")
    assert read_structure(deck).positions.tobytes() == atoms.positions.tobytes()
    assert deck.flag("SCF.MustConverge")


def test_misspelt_keyword_is_caught_and_a_new_one_allowed(siesta, open_siesta):
    keywords = {"MeshCutof": "100 Ry"}
    with pytest.raises(EngineError, match=r"engine section: .*did you mean 'Mesh.Cutoff'"):
        open_siesta(siesta(keywords=keywords), molecule("CH4"))
    open_siesta(siesta(keywords=keywords, known_keywords=["MeshCutof"]), molecule("CH4"))


def test_block_among_the_keywords(tmp_path, siesta, open_siesta):
    basis = ["C 1", " n=2 0 1", " 4.0", " 1.0"]
    atoms = molecule("CH4")
    engine = open_siesta(siesta(keywords={"PAO.Basis": basis}, connection="process"), atoms)
    engine.label(atoms, index=0)
    written = (tmp_path / "s" / "label-000000" / "otf.fdf").read_text()
    assert "%block PAO.Basis\n" + "\n".join(basis) + "\n%endblock PAO.Basis" in written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": "siestaa -x"}, r"engine\.command: 'siestaa' is not found"),
        ({"pseudo_path": "/"}, r"engine\.pseudo_path: / has no C\.psf"),
    ],
)
def test_what_is_not_there_is_named(siesta, open_siesta, changes, message):
    with pytest.raises(EngineError, match=message):
        open_siesta(siesta() | changes, molecule("CH4"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"basis": "DZP"}, "pseudo_path is missing"),
        ({"template": "/x/job.fdf", "xc": "lda"}, "xc comes from the template"),
        ({"pseudo_path": "/x", "connection": "process", "history_depth": 2}, "needs a server"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        load_engine("siesta").Options.model_validate(options)


def test_inet_server_listens_on_this_machine_only(siesta, open_siesta):
    atoms = molecule("CH4")
    engine = open_siesta(siesta(connection="inet"), atoms)
    assert isinstance(engine.label(atoms, index=0), Labels)
    deck = fdf.read(next(engine._job.scratch.glob("server-*/otf.fdf")))
    assert deck.value("Master.address") == "127.0.0.1"
    with pytest.raises(OSError, match="refused"):  # the port is closed once SIESTA is connected
        socket.create_connection(("127.0.0.1", int(deck.value("Master.port"))), timeout=5)


# Runs


CONFIG = """\
system:
  from: job/job.fdf
engine:
  kind: siesta
  template: job/job.fdf
  command: {python} {standin} {mode} {memory}
dynamics:
  steps: 30
  timestep_fs: 0.5
policy:
  force_target_meV_A: 50
"""


@pytest.mark.full
@pytest.mark.parametrize("mode", ["compute", "once-dies"])
def test_job_of_ones_own_is_taken_over(tmp_path, mode):
    job = tmp_path / "job"
    pseudopotentials(job)
    text = (GOLDEN / "a_ch4_converged" / "siesta.fdf").read_text()
    at = text.index("AtomicCoordinatesFormat")
    (job / "geometry.fdf").write_text(text[at:])
    (job / "job.fdf").write_text(
        text[:at] + "%include geometry.fdf\nMD.TypeOfRun Nose\nMD.LengthTimeStep 0.5 fs\n"
    )
    source = tmp_path / "run.yaml"
    source.write_text(
        CONFIG.format(python=sys.executable, standin=STANDIN, mode=mode, memory=tmp_path)
    )
    run = create_run(read_config(source), source, tmp_path / "run")
    for name in ("job.fdf", "geometry.fdf"):  # the run keeps its own copy
        (job / name).unlink()
    summary = run_session(*read_run(run.path))
    assert summary.steps == 30
    labels = ase.io.read(run.labels, ":")
    assert labels[0].cell.lengths().tolist() == [7.0, 7.0, 7.0]
    assert len(labels) == summary.labels < 30
    assert re.search(
        r"engine_template.fdf: SystemLabel siesta → otf|:2: SystemLabel", run.log.read_text()
    )
    assert f"pseudo_path: {job}" in run.config.read_text()

"""OpenMX: captured outputs, named failures, and the program as a subprocess."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.units import Hartree

from otf.config import read_config
from otf.electrons.density_matrix import of_hamiltonian
from otf.electrons.mulliken import mulliken_charges
from otf.engines.asking import ask
from otf.engines.contract import EngineContract
from otf.engines.failures import FROM_SCRATCH, MORE_ITERATIONS, ONCE_MORE, SAFE_MIXING, diagnose
from otf.engines.labels import LabelFailure, Labels
from otf.engines.process import Finished, clean_environment, run_program
from otf.engines.protocol import DensityGuess
from otf.engines.registry import load_engine
from otf.engines.sanity import impossible
from otf.errors import ConfigError, EngineError
from otf.io.matrices import read_matrices
from otf.orbitals.block_matrices import BlockMatrix
from otf.runs.create import create_run
from otf.runs.directory import read_run
from otf.runs.session import run_session
from otf_openmx import orbitals, output
from otf_openmx.deck import parse, read
from otf_openmx.densities import write_density
from otf_openmx.failures import KNOWN, Evidence
from otf_openmx.geometry import read_structure
from otf_openmx.matrices import occupation_of
from otf_openmx.occupations import entropy_term
from otf_openmx.scfout import read_scfout
from tests.engines.round_overlap import assert_round

GOLDEN = Path(__file__).parents[1] / "golden" / "openmx"
STANDIN = Path(__file__).parents[1] / "standins" / "fake_openmx.py"


def data_path(folder: Path) -> Path:
    """The part of DFT_DATA19 that otf reads: the valence electrons."""
    (folder / "VPS").mkdir(parents=True, exist_ok=True)
    for name, electrons in (("C", 4.0), ("H", 1.0), ("O", 6.0), ("Si", 4.0), ("Al", 3.0)):
        (folder / "VPS" / f"{name}_PBE19.vps").write_text(f"valence.electron  {electrons}\n")
    return folder


@pytest.fixture
def options(tmp_path):
    def make(mode: str = "compute", **changes):
        program = tmp_path / "program" / "fake_openmx.py"
        program.parent.mkdir(exist_ok=True)
        here = f"Path({str(STANDIN)!r}).parents[1]"  # each copy counts its own calls
        program.write_text(STANDIN.read_text().replace("Path(__file__).parents[1]", here))
        return {
            "command": f"{sys.executable} {program} {mode}",
            "data_path": str(data_path(tmp_path / "data")),
            "basis": {"C": "C6.0-s2p2d1", "H": "H6.0-s2p1"},
        } | changes

    return make


def opened(options, atoms, scratch, **system):
    engine_class = load_engine("openmx")
    engine = engine_class(
        engine_class.Options.model_validate(options), **({"charge": 0, "spin": 0} | system)
    )
    engine.open(atoms, scratch)
    return engine


def evidence(stdout: str, *, code=0, timed_out=False, has_out=True, warm=False):
    return Evidence(Finished(code, timed_out, 1.0), stdout, "", has_out, warm)


def ended(pid: int) -> bool:
    """Whether a process has ended, or ends within seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


# Captures


def by_hand(path: Path, start: str, column: slice) -> np.ndarray:
    """Numbers in the lines after a heading, read without the code under test."""
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if start in line)
    rows = []
    for line in lines[at + 1 :]:
        words = line.split()
        if len(words) < 8:
            if rows:
                break
            continue
        rows.append([float(x) for x in words[column]])
    return np.array(rows)


@pytest.mark.parametrize(
    ("case", "atoms", "energy_ha", "iterations"),
    [("a_ch4/ch4", 5, -8.214622905134, 14), ("b_si8/si8", 8, None, None)],
)
def test_captured_run_is_read_to_the_digits_it_prints(case, atoms, energy_ha, iterations):
    out, std = (GOLDEN / f"{case}.{kind}" for kind in ("out", "std"))
    printed = output.read_out(out.read_text())
    forces = by_hand(out, "<coordinates.forces", slice(5, 8))
    assert printed.forces.shape == (atoms, 3)
    np.testing.assert_allclose(printed.forces, forces * Hartree / 0.529177249, rtol=1e-12)
    if energy_ha is not None:
        assert printed.energy == pytest.approx(energy_ha * Hartree, abs=1e-9)
    assert printed.atomic_energies.sum() == pytest.approx(printed.energy, abs=1e-7)
    stress = output.read_stress(std.read_text())
    np.testing.assert_allclose(stress, stress.T, atol=1e-12)
    cycle = output.read_cycle(std.read_text())
    assert cycle.converged
    if iterations is not None:
        assert cycle.iterations == iterations
        assert stress[0, 0] == pytest.approx(-0.00000320 * Hartree / 0.529177249**3)
    assert output.read_version(std.read_text()) == "3.9"
    assert output.finished(std.read_text())
    assert diagnose("OpenMX", KNOWN, evidence(std.read_text()), (), "here") is None


def test_structure_of_a_captured_input():
    atoms = read_structure(read(GOLDEN / "a_ch4" / "ch4.dat"))
    assert atoms.get_chemical_formula() == "CH4"
    assert atoms.positions[0, 0] == 5.01036752576194
    assert atoms.pbc.all()
    assert atoms.cell.lengths().tolist() == [10.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("case", "code", "name", "words"),
    [
        ("c_notconv/ch4", 0, "SCF not converged", "4 iterations"),
        ("d_missing_vps/ch4", 0, "file not found", "C_PBE99.vps"),
        ("d2_missing_pao/ch4", 0, "file not found", "C9.9.pao"),
        ("d3_bad_datapath/ch4", 0, "file not found", "/nonexistent"),
        ("e_killed/ch4", 137, "killed", "signal 9"),
        ("e2_killed_single/ch4", 143, "killed", "signal 15"),
        ("g_input_errors/nan", 139, "killed", "signal 11"),
        ("g_input_errors/mdfoo", 0, "bad input", "ERROR key=MD.Type"),
        ("g_input_errors/n4", 0, "bad input", "Format error"),
        ("g_input_errors/n6", 0, "bad input", "Format error"),
        ("g_input_errors/noend", 0, "bad input", "Format error"),
        ("g_input_errors/spx", 0, "bad input", "undefined species name X"),
        ("g_input_errors/val", 0, "bad input", "initial densities of atom 1"),
        ("g_input_errors/xc", 0, "bad input", "ERROR key=scf.XcType"),
        ("g_input_errors/trunc", 0, "bad input", "recursion method"),
        ("g_input_errors/nofile", 0, "file not found", "can not open"),
        ("g_input_errors/typo", 0, "incomplete output", "breaks off"),
    ],
)
def test_captured_failure_has_its_name(case, code, name, words):
    text = (GOLDEN / f"{case}.std").read_text()
    failure = diagnose(
        "OpenMX", KNOWN, evidence(text, code=code, has_out=False), (), "/run/label-000003"
    )
    if name == "SCF not converged":
        failure = diagnose("OpenMX", KNOWN, evidence(text, code=code), (), "/run/label-000003")
    assert failure.reason.startswith(f"OpenMX, {name}: ")
    assert words in failure.reason
    assert "/run/label-000003" in failure.advice


def test_remedies_come_one_by_one_and_end():
    text = (GOLDEN / "c_notconv" / "ch4.std").read_text()
    tried = []
    while (
        failure := diagnose("OpenMX", KNOWN, evidence(text, warm=True), tried, "d")
    ).remedy is not None:
        tried.append(failure.remedy)
    assert tried == [FROM_SCRATCH, SAFE_MIXING, MORE_ITERATIONS]
    assert (
        diagnose("OpenMX", KNOWN, evidence(text), (), "d").remedy == SAFE_MIXING
    )  # nothing to drop
    assert len({known.name for known in KNOWN}) == len(KNOWN)


def test_overlapping_atoms_are_refused_before_and_after(tmp_path, options):
    printed = output.read_out((GOLDEN / "g_input_errors" / "ovl.out").read_text())
    assert "negative" in impossible(printed.energy, printed.forces, 5)
    atoms = molecule("CH4")
    atoms.positions[1] = atoms.positions[2] + 0.1
    answer = opened(options(), molecule("CH4"), tmp_path / "s").label(atoms, index=0)
    assert "0.17 Angstrom apart" in answer.reason


@pytest.mark.parametrize(("case", "spins"), [("a_ch4", 1), ("i_spin_small", 2)])
def test_matrices_give_the_electrons_and_the_band_energy(case, spins):
    found = read_scfout(GOLDEN / case / "ch4.scfout")
    uele = re.search(r"Uele\.\s+(\S+)", (GOLDEN / case / "ch4.out").read_text())[1]

    def trace(one, other):
        return sum(np.sum(a * b) for x, y in zip(one, other) for a, b in zip(x, y))

    # The matrix of one spin holds half the electrons where the other one is not written.
    each = 2 / spins
    assert len(found.hamiltonian) == len(found.density) == spins
    electrons = each * sum(trace(d, found.overlap) for d in found.density)
    band = each * sum(trace(d, h) for d, h in zip(found.density, found.hamiltonian))
    assert electrons == pytest.approx(found.electrons) == pytest.approx(8.0)
    assert band == pytest.approx(float(uele), abs=1e-8)
    for i, near in enumerate(found.neighbours):
        assert near[0] == i
        assert not found.cells[i][0].any()
        np.testing.assert_allclose(found.overlap[i][0], found.overlap[i][0].T, atol=1e-9)


def test_overlap_of_a_pair_is_the_transpose_of_the_other_way_round():
    found = read_scfout(GOLDEN / "a_ch4" / "ch4.scfout")
    where = {
        (i, int(j), *cell.tolist()): found.overlap[i][k]
        for i in range(len(found.orbitals))
        for k, (j, cell) in enumerate(zip(found.neighbours[i], found.cells[i]))
    }
    for (i, j, *cell), block in where.items():
        np.testing.assert_allclose(block, where[j, i, *(-c for c in cell)].T, atol=1e-9)


@pytest.mark.parametrize("keep", [3, 1000, 9000])
def test_truncated_matrices_are_refused(tmp_path, keep):
    path = tmp_path / "cut.scfout"
    path.write_bytes((GOLDEN / "i_spin_small" / "ch4.scfout").read_bytes()[:keep])
    with pytest.raises(EngineError, match=r"HS\.fileout"):
        read_scfout(path)


# Input files


def test_deck_keeps_what_it_does_not_change():
    text = (GOLDEN / "a_ch4" / "ch4.dat").read_text()
    deck = parse(text, "ch4.dat")
    again = parse(deck.text(), "again")
    assert again.changes_from(deck) == []
    changed = deck.copy()
    changed.put("md.type", "NVE")
    changed.put("scf.maxIter", 7)
    changed.drop("MD.TimeStep")
    lines = {line.split()[0]: i for i, line in enumerate(text.splitlines(), 1) if line.strip()}
    assert changed.changes_from(deck) == [
        f"ch4.dat:{lines['scf.maxIter']}: scf.maxIter 100 → 7",
        f"ch4.dat:{lines['MD.Type']}: MD.Type nomd → NVE",
        f"ch4.dat:{lines['MD.TimeStep']}: MD.TimeStep left out",
    ]


def test_misspelt_keyword_is_caught(tmp_path, options):
    template = tmp_path / "job.dat"
    template.write_text((GOLDEN / "g_input_errors" / "typo.dat").read_text())
    given = {"command": options()["command"], "data_path": options()["data_path"]}
    with pytest.raises(EngineError, match=r"job.dat:32: .*did you mean 'scf.energycutoff'"):
        opened(given | {"template": str(template)}, molecule("CH4"), tmp_path / "s")


def test_broken_inputs_name_their_line():
    with pytest.raises(EngineError, match=r"x:1: block <Atoms.UnitVectors is never closed"):
        parse("<Atoms.UnitVectors\n 1 0 0\n", "x")


def test_the_first_of_two_keywords_counts_as_in_openmx(tmp_path, options, caplog):
    path = GOLDEN / "decks" / "openmx_duplicate.dat"
    deck = read(path)
    assert deck.value("scf.criterion") == "1e-6"
    words = "openmx_duplicate.dat:26: scf.criterion is given twice; OpenMX takes the first"
    assert load_engine("openmx").job(path).left[0].startswith(words)
    assert not caplog.text  # the file is read several times; it is said when the engine is opened
    given = {name: value for name, value in options().items() if name != "basis"}
    data_path(Path(given["data_path"]))
    opened(given | {"template": str(path), "stress": False}, read_structure(deck), tmp_path / "run")
    assert caplog.text.count(words) == 1


def test_structures_have_the_masses_and_units_of_the_file():
    text = (GOLDEN / "decks" / "openmx_empty_species_unused.dat").read_text()
    atoms = read_structure(parse(text, "x"))  # an empty species is declared, and not used
    assert atoms.get_chemical_formula() == "H2O"
    assert read_structure(parse(text.replace("H_PBE19", "H0"), "x")) == atoms
    with pytest.raises(EngineError, match="is not 'name basis pseudopotential' of an element"):
        read_structure(parse(text.replace("H_PBE19", "C1Si9"), "x"))
    text = text.replace("H_PBE19", "H_PBE19 2.014").replace("Unit  Ang", "Unit  Ang # or AU")
    heavy = read_structure(parse(text.replace("# or AU", "or AU"), "x"))
    np.testing.assert_allclose(heavy.get_masses(), [atoms.get_masses()[0], 2.014, 2.014])
    np.testing.assert_allclose(heavy.positions, atoms.positions)
    with pytest.raises(EngineError, match=r"atom 2 of .* is of species X, which"):
        read_structure(parse(text.replace(" 2 H ", " 2 X "), "x"))


def rows_of_label(options, deck: Path, atoms: Atoms, folder: Path) -> list[list[str]]:
    """What follows the positions in the rows of atoms that OpenMX is given."""
    given = {name: value for name, value in options().items() if name != "basis"}
    data_path(Path(given["data_path"]))
    engine = opened(given | {"template": str(deck), "stress": False}, atoms, folder)
    assert isinstance(ask(engine, atoms, index=0), Labels)
    written = read(folder / "label-000000" / "otf.dat")
    return [line.split()[5:] for line in written.block("Atoms.SpeciesAndCoordinates")]


def test_rows_of_atoms_keep_all_their_columns(tmp_path, options):
    """Flags of DFT+U, angles of spins."""
    deck = GOLDEN / "decks" / "openmx_plusU.dat"
    rows = rows_of_label(options, deck, read_structure(read(deck)), tmp_path / "u")
    assert rows == [["4.0", "2.0", "on"], ["0.5", "0.5", "off"], ["0.5", "0.5", "off"]]
    deck = GOLDEN / "decks" / "openmx_noncollinear_afm.dat"
    rows = rows_of_label(options, deck, read_structure(read(deck)), tmp_path / "nc")
    assert [row[2] for row in rows] == ["0.0", "180.0"]
    with pytest.raises(EngineError, match=r"columns after the electrons .* not those of the run"):
        rows_of_label(options, deck, read_structure(read(deck)) * (2, 1, 1), tmp_path / "four")


def test_empty_sites_stay_where_the_template_has_them(tmp_path, options):
    """Basis functions without an atom, as in slabs; they carry forces, but are no atoms."""
    text = (GOLDEN / "decks" / "openmx_empty_species_unused.dat").read_text()
    plain, deck = tmp_path / "plain.dat", tmp_path / "empty.dat"
    plain.write_text(text)
    text = text.replace("Atoms.Number  3", "Atoms.Number  4")
    text = text.replace(" 2 H 4.757", " 2 E 4.0 2.5 4.0 0.0 0.0\n 3 H 4.757", 1)
    deck.write_text(text.replace(" 3 H 3.243", " 4 H 3.243"))
    atoms = read_structure(read(deck))
    assert str(atoms.symbols) == "OH2"
    given = {name: value for name, value in options().items() if name != "basis"}
    data_path(Path(given["data_path"]))
    answers = []
    for template in (plain, deck):
        folder = tmp_path / template.stem
        engine = opened(given | {"template": str(template), "stress": False}, atoms, folder)
        answers.append(ask(engine, atoms, index=0))
    assert answers[0].forces.tobytes() == answers[1].forces.tobytes()
    written = read(tmp_path / "empty" / "label-000000" / "otf.dat")
    assert written.value("Atoms.Number") == "4"
    last = written.block("Atoms.SpeciesAndCoordinates")[-1].split()
    assert last[1] == "E"
    np.testing.assert_allclose([float(x) for x in last[2:5]], [4.0, 2.5, 4.0])
    with pytest.raises(EngineError, match="has empty sites, whose basis functions"):
        opened(given | {"template": str(deck), "keep_matrices": True}, atoms, tmp_path / "kept")


def test_results_that_no_label_needs_are_switched_off_and_named(tmp_path, options, caplog):
    deck = GOLDEN / "decks" / "openmx_post.dat"
    given = {name: value for name, value in options().items() if name != "basis"}
    data_path(Path(given["data_path"]))
    given |= {"template": str(deck), "stress": False, "keywords": {"MO.fileout": "on"}}
    with caplog.at_level("INFO"):
        engine = opened(given, read_structure(read(deck)), tmp_path / "run")
    assert engine._deck.value("Dos.fileout") == "off"
    assert engine._deck.value("Band.dispersion") == "off"
    assert engine._deck.value("HS.fileout") == "off"
    assert engine._deck.value("MO.fileout") == "on"  # asked for in the configuration
    assert "Dos.fileout on → off" in caplog.text


def test_keywords_of_earlier_versions_are_warned_of(caplog):
    deck = parse("orbitalOpt.MD.maxIter 1\nscf.maxIter 40\n", "old.dat")
    deck.refuse_unknown([])
    assert "old.dat:1: orbitalOpt.MD.maxIter: keywords of earlier versions" in caplog.text
    with pytest.raises(EngineError, match=r"no keyword 'scf.maxItter'"):
        parse("scf.maxItter 1\n", "old.dat").refuse_unknown([])


# The program as a subprocess


@pytest.mark.full
class TestOpenmxContract(EngineContract):
    kind = "openmx"
    structure = molecule("H2O")
    crystal: ClassVar[Atoms] = bulk("C", cubic=True, a=3.6)
    stress_tolerance = 5e-4

    @pytest.fixture(autouse=True)
    def standin(self, tmp_path, monkeypatch):
        program = tmp_path / "bin" / "openmx"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {STANDIN} compute "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")
        type(self).options = {
            "data_path": str(data_path(tmp_path)),
            "basis": {"C": "C6.0-s2p2d1", "H": "H6.0-s2p1", "O": "O6.0-s2p2d1"},
            "stress": True,
            "atomic_energies": True,
        }


def test_warm_start_begins_from_the_last_label_and_only_from_that(tmp_path, options):
    atoms = molecule("CH4")
    engine = opened(options(), atoms, tmp_path / "s")
    cold = [engine.label(atoms, index=i).scf_iterations for i in range(3)]
    assert cold == [12, 5, 5]
    again = opened(options(), atoms, tmp_path / "s")  # as after a resume
    assert again.label(atoms, index=3).scf_iterations == 5
    assert again.label(atoms, index=9).scf_iterations == 12  # there is no label 8
    other = opened(options(energy_cutoff_ry=250.0), atoms, tmp_path / "s")
    assert other.label(atoms, index=10).scf_iterations == 12  # another grid
    assert len(list((tmp_path / "s").glob("label-*"))) == 1


def test_input_has_full_precision_and_a_fixed_grid(tmp_path, options):
    atoms = molecule("CH4")
    atoms.positions += 1.0 / 3.0
    opened(options(), atoms, tmp_path / "s").label(atoms, index=0)
    deck = read(tmp_path / "s" / "label-000000" / "otf.dat")
    written = read_structure(deck)
    assert written.positions.tobytes() == atoms.positions.tobytes()
    assert deck.value("scf.fixed.grid") == "0.0 0.0 0.0"
    assert deck.value("MD.Type") == "nomd"


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("unconverged", "SCF not converged"),
        ("dies", "killed: ended by signal 9"),
        ("garbage", "no complete .out file"),
        ("stale", "positions echoed back are off"),
        ("d_missing_vps/ch4.std", "Could not find"),
        ("g_input_errors/xc.std", "ERROR key=scf.XcType"),
    ],
)
def test_failing_program_gives_a_failure_with_its_reason(tmp_path, options, mode, reason):
    atoms = molecule("CH4")
    engine = opened(options(mode), atoms, tmp_path / "s")
    answer = ask(engine, atoms, index=0)
    assert isinstance(answer, LabelFailure)
    assert reason in answer.reason
    assert str(tmp_path / "s" / "label-000000") in answer.advice


def al4(temperature_K: int, where: str) -> str:
    """An ``.out`` file: an atom displaced by -0.01, 0 or 0.01 Angstrom along x (m, 0, p)."""
    return (GOLDEN / "k_al4" / f"al4_{temperature_K}_{where}.out").read_text()


@pytest.mark.parametrize("temperature_K", [300, 1000])
def test_forces_are_derivatives_of_the_energy_with_the_entropy(temperature_K):
    runs = {where: al4(temperature_K, where) for where in "m0p"}
    force = output.read_out(runs["0"]).forces[0, 0]
    plain = {where: output.read_out(runs[where]).energy for where in "mp"}
    free = {where: e + entropy_term(runs[where], temperature_K) for where, e in plain.items()}
    assert (free["m"] - free["p"]) / 0.02 == pytest.approx(force, abs=0.0015)
    assert abs((plain["m"] - plain["p"]) / 0.02 - force) > 0.008


def test_entropy_is_zero_in_insulators_and_unknown_without_all_eigenvalues():
    for case in ("a_ch4/ch4", "b_si8/si8", "i_spin_small/ch4"):
        assert entropy_term((GOLDEN / f"{case}.out").read_text(), 300.0) == pytest.approx(0.0)
    metal = al4(1000, "0")
    assert entropy_term(metal, 1000.0) < -0.1
    assert entropy_term(metal, 3000.0) is None  # not the temperature of the occupations
    lines = metal.splitlines(keepends=True)
    lowest = next(i for i, line in enumerate(lines) if re.match(r"\s+1\s+-0\.\d{14}", line))
    assert entropy_term("".join(lines[:lowest] + lines[lowest + 1 :]), 1000.0) is None
    assert entropy_term(metal.replace("Eigenvalues", ""), 1000.0) is None


def test_labels_carry_the_free_energy(tmp_path, options, caplog):
    captured = output.read_out(al4(1000, "0"))
    atoms = Atoms("Al4", captured.positions, cell=[4.05] * 3, pbc=True)
    basis = {"basis": {"Al": "Al7.0-s2p2"}, "electronic_temperature_K": 1000, "stress": False}
    engine = opened(options("k_al4/al4_1000_0.out", **basis), atoms, tmp_path / "s")
    labels = ask(engine, atoms, index=0)
    assert labels.energy == pytest.approx(captured.energy + entropy_term(al4(1000, "0"), 1000.0))
    assert not caplog.messages
    ch4 = molecule("CH4")
    engine = opened(options("compute"), ch4, tmp_path / "c")  # the stand-in lists no eigenvalues
    for index in range(2):
        ask(engine, ch4, index=index)
    assert sum("without the entropy" in m for m in caplog.messages) == 1


@pytest.mark.parametrize("mode", ["once-dies", "once-unconverged"])
def test_remedy_saves_the_label(tmp_path, options, mode):
    atoms = molecule("CH4")
    assert isinstance(ask(opened(options(mode), atoms, tmp_path / "s"), atoms, index=0), Labels)


def test_bad_restart_files_are_dropped(tmp_path, options):
    atoms = molecule("CH4")
    engine = opened(options("warm-fails"), atoms, tmp_path / "s")
    assert isinstance(ask(engine, atoms, index=0), Labels)
    answer = ask(engine, atoms, index=1)
    assert isinstance(answer, Labels)
    assert list((tmp_path / "s" / "label-000001" / "otf_rst").glob("*.ft1"))


@pytest.mark.full
def test_hanging_program_is_ended_with_its_children(tmp_path, options):
    atoms = molecule("CH4")
    engine = opened(options("hang", timeout_s=3.0), atoms, tmp_path / "s")
    answer = engine.label(atoms, index=0, remedies=(ONCE_MORE,))
    assert "OpenMX, hangs: no end after" in answer.reason
    assert answer.remedy is None
    child = int((tmp_path / "s" / "label-000000" / "child.pid").read_text())
    assert ended(child)


def test_program_does_not_outlive_a_killed_otf(tmp_path):
    code = (
        "import sys; from pathlib import Path; from otf.engines.process import run_program\n"
        "run_program([sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True);"
        " time.sleep(600)'], Path('.'), stdout='o', stderr='e')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    until = time.monotonic() + 20
    while time.monotonic() < until and not (tmp_path / "o").exists():
        time.sleep(0.05)
    while time.monotonic() < until and not (tmp_path / "o").read_text().strip():
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert ended(int((tmp_path / "o").read_text()))


def test_child_does_not_see_the_outer_mpi(tmp_path, monkeypatch):
    monkeypatch.setenv("PMIX_RANK", "3")
    code = "import os; print('PMIX_RANK' in os.environ)"
    run_program([sys.executable, "-c", code], tmp_path, stdout="o", stderr="e")
    assert (tmp_path / "o").read_text() == "False\n"
    step = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_ID": "5"}
    cleaned = clean_environment(step | {"SLURM_JOB_CPUS_PER_NODE": "8"})
    assert cleaned["SLURM_OVERLAP"] == "1"
    assert cleaned["SLURM_TASKS_PER_NODE"] == "8"
    assert "SLURM_NTASKS" not in cleaned


# Runs


TEMPLATE = """\
System.Name   job
DATA.PATH     {data}
Species.Number 2
<Definition.of.Atomic.Species
 C  C6.0-s2p2d1  C_PBE19
 H  H6.0-s2p1    H_PBE19
Definition.of.Atomic.Species>
Atoms.Number 5
<Atoms.SpeciesAndCoordinates
 1 C 4.0 4.0 4.0          2.0 2.0
 2 H 4.629 4.629 4.629    0.5 0.5
 3 H 3.371 3.371 4.629    0.5 0.5
 4 H 4.629 3.371 3.371    0.5 0.5
 5 H 3.371 4.629 3.371    0.5 0.5
Atoms.SpeciesAndCoordinates>
<Atoms.UnitVectors
 8 0 0
 0 8 0
 0 0 8
Atoms.UnitVectors>
scf.XcType    GGA-PBE
scf.energycutoff 160
scf.criterion 1e-7
scf.maxIter   60
MD.Type       NVT_NH
MD.maxIter    1000
"""
CONFIG = """\
system:
  from: job.dat
engine:
  kind: openmx
  template: job.dat
  command: {python} {standin} compute
dynamics:
  steps: 30
  timestep_fs: 0.5
policy:
  force_target_meV_A: 50
"""


@pytest.mark.parametrize(("field", "warned"), [("0.0 0.0 0.1", True), ("0.0 0.0 0.0", False)])
def test_an_external_field_is_warned_of(tmp_path, options, caplog, field, warned):
    opened(options(keywords={"scf.Electric.Field": field}), molecule("CH4"), tmp_path / "s").close()
    assert ("scf.Electric.Field: in an external field" in caplog.text) == warned


def test_job_of_ones_own_is_taken_over(tmp_path):
    (tmp_path / "job.dat").write_text(TEMPLATE.format(data=data_path(tmp_path / "data")))
    source = tmp_path / "run.yaml"
    source.write_text(CONFIG.format(python=sys.executable, standin=STANDIN))
    run = create_run(read_config(source), source, tmp_path / "run")
    (tmp_path / "job.dat").unlink()  # the run keeps its own copy
    summary = run_session(*read_run(run.path))
    assert summary.steps == 30
    labels = ase.io.read(run.labels, ":")
    assert labels[0].cell.lengths().tolist() == [8.0, 8.0, 8.0]
    assert len(labels) == summary.labels < 30
    log = run.log.read_text()
    assert re.search(r"engine_template.dat:\d+: MD.Type NVT_NH → nomd", log)
    assert (run.path / "engine_template.dat").exists()


def test_missing_template_is_named_with_its_place(tmp_path):
    source = tmp_path / "run.yaml"
    source.write_text(CONFIG.format(python=sys.executable, standin=STANDIN))
    with pytest.raises(ConfigError) as error:
        read_config(source)
    assert f"{source}:5:13: engine.template: there is no {tmp_path / 'job.dat'}" in str(error.value)
    assert f"{source}:2:9: system.from: there is no file 'job.dat'" in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"basis": {"C": "C6.0-s1"}}, "data_path is missing"),
        ({"data_path": "/x"}, "basis is missing"),
        ({"template": "/x/job.dat", "xc": "lda"}, "xc comes from the template"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        load_engine("openmx").Options.model_validate(options)


def test_program_that_is_not_there_is_named(tmp_path, options):
    with pytest.raises(EngineError, match=r"engine\.command: 'openmxx' is not found"):
        opened(options() | {"command": "openmxx -x"}, molecule("CH4"), tmp_path)


def test_the_overlap_of_a_bond_is_round():
    """Along a bond only orbitals of equal m overlap: detects a wrong sign or order of orbitals."""
    found = read_scfout(GOLDEN / "a_ch4" / "ch4.scfout")
    atoms = Atoms("CH4", found.positions, cell=found.cell, pbc=True)
    numbers, bases = np.asarray(atoms.numbers), {6: "C6.0-s2p2d1", 1: "H6.0-s2p1"}
    overlap = orbitals.to_blocks(found.overlap, found, numbers, bases)
    assert_round(overlap, atoms)
    density = orbitals.to_blocks(found.density[0], found, numbers, bases)
    # The matrix of one spin holds half the electrons where the other one is not written.
    assert 2.0 * np.vdot(overlap.values, density.values) == pytest.approx(found.electrons)


@pytest.mark.parametrize(
    ("bases", "said"),
    [
        ({6: "C6.0-s2p2", 1: "H6.0-s2p1"}, "atom 1 has 13 orbitals, and C6.0-s2p2 has 8"),
        ({6: "C6.0-s2p2f1", 1: "H6.0-s2p1"}, "is not a basis of s, p and d shells"),
    ],
)
def test_another_basis_than_the_file_has_is_refused(bases, said):
    found = read_scfout(GOLDEN / "a_ch4" / "ch4.scfout")
    with pytest.raises(ValueError, match=said):
        orbitals.to_blocks(found.overlap, found, np.array([6, 1, 1, 1, 1]), bases)


# Matrices of labels


@pytest.mark.parametrize("pbc", [False, True])
def test_matrices_of_a_label_are_those_of_its_file(tmp_path, options, pbc):
    atoms = molecule("CH4", vacuum=4.0, pbc=pbc)
    engine = opened(options(keep_matrices=True), atoms, tmp_path / "s")
    assert engine.matrices() is None
    assert isinstance(engine.label(atoms, index=0), Labels)
    known = engine.matrices()
    assert (known.kpoints is not None) == pbc
    assert known.electrons == pytest.approx(8.0)
    printed = (GOLDEN / "a_ch4" / "ch4.out").read_text().split("Mulliken populations")[1]
    rows = [line.split() for line in printed.splitlines() if re.match(r" +\d +[CH] ", line)]
    populations = np.array([float(row[4]) for row in rows[:5]])
    charges = mulliken_charges(known.density, known.overlap, known.cores)
    np.testing.assert_allclose(charges, [4, 1, 1, 1, 1] - populations, atol=1e-7)
    own = of_hamiltonian(known.hamiltonian.dense(), known.overlap.dense(), 8.0)
    assert np.abs(own - known.density.dense()).max() < 1e-6


def test_orbitals_in_space_are_those_of_the_pao_files(tmp_path):
    x = np.linspace(-7.0, np.log(6.0), 400)
    r = np.exp(x)
    columns = {0: [np.exp(-r), r**2 * np.exp(-r)], 1: [r * np.exp(-2 * r), 0 * r]}
    text = "".join(
        f"<pseudo.atomic.orbitals.L={degree}\n"
        + "".join(" ".join(map(repr, map(float, row))) + "\n" for row in zip(x, r, *of))
        + f"pseudo.atomic.orbitals.L={degree}>\n"
        for degree, of in columns.items()
    )
    (tmp_path / "H6.0.pao").write_text(f"some text\n{text}more\n")
    found = orbitals.radial_functions(tmp_path, {1: "H6.0-s2p1"})[1]
    assert found.reach == pytest.approx(6.0 * output.BOHR_A)
    assert found.values.shape == (3, 401)
    atomic = found.distances[1:] / output.BOHR_A
    scale = output.BOHR_A**1.5
    np.testing.assert_allclose(scale * found.values[1][1:], atomic**2 * np.exp(-atomic))
    np.testing.assert_allclose(scale * found.values[2][1:], atomic * np.exp(-2 * atomic))
    assert scale * found.values[0][0] == pytest.approx(1.0, abs=1e-3)
    assert found.values[2][0] == 0.0
    assert orbitals.radial_functions(tmp_path, {1: "H6.0-s1", 6: "C6.0-s1"}) is None


def written_pao(folder: Path, name: str, electrons: float) -> None:
    """A .pao file with an s orbital, and a density of a different number of electrons."""
    folder.mkdir(exist_ok=True)
    x = np.linspace(-7.0, np.log(6.0), 800)
    r = np.exp(x)
    tables = {
        "pseudo.atomic.orbitals.L=0": [x, r, 2 * np.exp(-r)],
        "valence.charge.density": [x, r, 1.1 * electrons / np.pi * np.exp(-2 * r)],
    }
    text = "".join(
        f"<{title}\n"
        + "".join(" ".join(map(repr, map(float, row))) + "\n" for row in zip(*columns, strict=True))
        + f"{title}>\n"
        for title, columns in tables.items()
    )
    (folder / f"{name}.pao").write_text(text)


def test_a_guess_is_the_density_that_openmx_starts_from(tmp_path, options):
    given = options(warm_start="auto", basis={"H": "H6.0-s1"})
    with pytest.raises(EngineError, match=r"engine\.warm_start: .* leave it at true"):
        opened(given, molecule("H2"), tmp_path / "none")
    written_pao(Path(given["data_path"]) / "PAO", "H6.0", 1.0)
    atoms = molecule("H2", vacuum=5.0)
    engine = opened(given, atoms, tmp_path / "s")
    assert engine.capabilities.matrices
    assert engine.label(atoms, index=0).scf_iterations == 12
    asked = []

    def density(boxed, grid):
        asked.append((boxed, grid))
        return grid.sampled(lambda points: np.exp(-points[:, 0]) + points[:, 1] * points[:, 2])

    dense = BlockMatrix.of_dense(atoms.numbers, {1: (0,)}, np.ones((2, 2)))
    engine.label(atoms, index=1, guess=DensityGuess(dense, density))
    ((boxed, grid),) = asked
    assert boxed.pbc.all()
    assert grid.shape == (8, 9, 10)
    rst = tmp_path / "s" / "label-000001" / "otf_rst"
    found = np.concatenate([np.fromfile(rst / f"otf.crst0_{rank}_0") for rank in range(2)])
    points = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    points = points.reshape(-1, 3) / grid.shape @ atoms.cell.array
    inside = 1.0 - 85.0 * np.exp(-12.0)  # of exp(-2r) / pi, within 6 bohr
    of_atoms = 0.0
    for position in atoms.positions:
        away = points - position
        lengths = atoms.cell.lengths()
        away -= lengths * np.round(away / lengths)
        r = np.linalg.norm(away, axis=1) / output.BOHR_A
        of_atoms = of_atoms + np.where(r < 6.0, np.exp(-2 * r) / np.pi / inside, 0.0)
    guessed = np.exp(-points[:, 0]) + points[:, 1] * points[:, 2]
    expected = 0.5 * (guessed * output.BOHR_A**3 - of_atoms)
    np.testing.assert_allclose(found, expected, atol=3e-6)

    (rst / "otf.crst0_1_0").write_bytes(bytes(16))  # another grid
    with pytest.raises(EngineError, match="grid points, the density"):
        write_density(rst, "otf", np.zeros(grid.shape))
    labels = engine.label(atoms, index=2, guess=DensityGuess(dense, density))
    assert isinstance(labels, Labels)  # a wrong initial density guess does not fail the label


@pytest.mark.parametrize("second", ["H6.0-s2p1 H_PBE19", "H6.0-s1 H_PBE19", "H6.0-s2p1 H_CA19"])
def test_species_of_an_element_must_be_alike(second):
    text = f"""\
Species.Number 2
DATA.PATH none
<Definition.of.Atomic.Species
 H H6.0-s2p1 H_PBE19
 Hb {second}
Definition.of.Atomic.Species>
"""
    deck, valence = parse(text, "x"), {"H": 1.0, "Hb": 1.0}
    if second == "H6.0-s2p1 H_PBE19":
        known = occupation_of(deck, molecule("H2"), valence, "engine.keep_matrices")
        assert known.bases == {1: "H6.0-s2p1"}
        # Their U may differ.
        deck = parse(text + "scf.Hubbard.U on\n", "x")
        with pytest.raises(EngineError, match=r"with scf\.Hubbard\.U, matrices are learned only"):
            occupation_of(deck, molecule("H2"), valence, "engine.keep_matrices")
        return
    with pytest.raises(EngineError, match=r"engine\.keep_matrices: .* unlike those of H"):
        occupation_of(deck, molecule("H2"), valence, "engine.keep_matrices")


def test_one_step_starts_from_a_density_and_has_one_cycle(tmp_path, options):
    given = options(keep_matrices=True, basis={"H": "H6.0-s1"})
    atoms = molecule("H2", vacuum=5.0)
    dense = BlockMatrix.of_dense(atoms.numbers, {1: (0,)}, np.ones((2, 2)))
    engine = opened(given, atoms, tmp_path / "without")
    with pytest.raises(EngineError, match="orbitals are not known as functions in space"):
        engine.one_step(atoms, index=0, guess=DensityGuess(dense))
    written_pao(Path(given["data_path"]) / "PAO", "H6.0", 1.0)
    engine = opened(given, atoms, tmp_path / "with")
    guess = DensityGuess(dense, lambda _, grid: np.ones(grid.shape))
    for index in range(2):
        # The stand-in has the matrices of another molecule to give.
        failure = engine.one_step(atoms, index=index, guess=guess)
        assert isinstance(failure, LabelFailure)
        assert failure.reason == "OpenMX: the Hamiltonian cannot be read"
    here = tmp_path / "with" / "label-000002"
    assert re.search(r"scf\.maxIter +1\n", (here / "otf.dat").read_text())
    rst = np.concatenate([np.fromfile(path) for path in sorted(here.glob("otf_rst/*.crst0*"))])
    of_atoms = 0.5 * output.BOHR_A**3 - rst
    assert 0.0 < of_atoms.max() < 0.5
    assert of_atoms.min() == pytest.approx(0.0, abs=1e-9)
    apart = atoms.copy()
    apart.positions[1] = apart.positions[0]
    assert "Angstrom apart" in engine.one_step(apart, index=2, guess=guess).reason


def test_a_crystals_k_points_are_in_the_middles_of_their_cells(tmp_path, options):
    given = options(keep_matrices=True, kpoints=[2, 1, 3], basis={"Si": "Si7.0-s2p2d1"})
    engine = opened(given, bulk("Si"), tmp_path / "s")
    seen = np.unique(engine._occupation.kpoints, axis=0)
    np.testing.assert_allclose(np.unique(seen[:, 0]), [-0.25, 0.25])
    np.testing.assert_allclose(np.unique(seen[:, 1]), [0.0])
    np.testing.assert_allclose(np.unique(seen[:, 2]), [-1 / 3, 0.0, 1 / 3], atol=1e-12)
    assert len(seen) == 6


def test_matrices_that_cannot_be_read_cost_no_label(tmp_path, options, caplog):
    atoms = molecule("CH4")
    engine = opened(options(keep_matrices=True), atoms, tmp_path / "s")
    assert isinstance(engine.label(atoms, index=0), Labels)
    (path,) = (tmp_path / "s").glob("label-000000/otf.scfout")
    path.write_bytes(path.read_bytes()[:500])
    assert engine.matrices() is None
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("more", "system"),
    [
        ({}, {"spin": 2}),
        ({"basis": {"C": "C6.0-s2p2f1", "H": "H6.0-s2p1"}}, {}),
    ],
    ids=["spin", "f orbitals"],
)
def test_matrices_that_cannot_be_learned_are_refused(tmp_path, options, more, system):
    with pytest.raises(EngineError, match=r"engine\.keep_matrices: .*leave it out"):
        opened(options(keep_matrices=True, **more), molecule("CH4"), tmp_path, **system)


@pytest.mark.full
def test_a_run_keeps_the_matrices_of_its_labels(tmp_path, options):
    given = options(keep_matrices=True)
    (tmp_path / "c.yaml").write_text(f"""\
system: {{molecule: CH4}}
engine: {json.dumps({"kind": "openmx", **given})}
dynamics: {{steps: 30}}
policy: {{gap_max: 3}}
""")
    config = read_config(tmp_path / "c.yaml")
    run = create_run(config, tmp_path / "c.yaml", tmp_path / "run")
    summary = run_session(*read_run(run.path))
    kept = [read_matrices(path) for path in sorted(run.matrices.glob("*.h5"))]
    assert len(kept) == summary.labels > 5
    assert [label.start for label in kept[:2]] == ["scratch", "previous density matrix"]

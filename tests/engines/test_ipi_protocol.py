"""The i-PI engine with a small program of its own, over real sockets."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from otf.engines.labels import LabelFailure, Labels
from otf.engines.registry import load_engine
from otf.errors import EngineError

STANDIN = Path(__file__).parents[1] / "standins" / "ipi_emt.py"


@pytest.fixture
def atoms() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def make(folder: Path, behaviour: str = "works", **options: object):
    """An engine whose input file has the behaviour in its name."""
    template = folder / "job.in"
    template.write_text("structure in start.xyz\n")
    engine_class = load_engine("ipi")
    given = {
        "command": f"{sys.executable} {STANDIN} start.xyz {{address}} {behaviour}",
        "template": template,
        "structure_file": "start.xyz",
        "structure_format": "extxyz",
        "converged": r"converged after (\d+) cycles",
        "timeout_s": 20.0,
    } | options
    return engine_class(engine_class.Options.model_validate(given), charge=0, spin=0)


def moved(atoms: Atoms) -> Atoms:
    out = atoms.copy()
    out.rattle(0.01, seed=5)
    return out


@pytest.mark.parametrize("connection", ["unix", "inet"])
def test_labels_equal_those_of_the_calculator(atoms, tmp_path, connection):
    engine = make(tmp_path, connection=connection)
    engine.open(atoms, tmp_path / "scratch")
    for index, structure in enumerate((atoms, moved(atoms))):
        labels = engine.label(structure, index=index)
        reference = structure.copy()
        reference.calc = EMT()
        assert labels.energy == pytest.approx(reference.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(labels.forces, reference.get_forces(), atol=1e-9)
        np.testing.assert_allclose(labels.stress, reference.get_stress(voigt=False), atol=1e-9)
    engine.close()
    assert len(list((tmp_path / "scratch").glob("process-*"))) == 1, "one process for both"


@pytest.mark.parametrize(
    ("behaviour", "options", "reason"),
    [
        ("lies", {}, "not proven converged"),
        ("fails", {"failures": {"divergence": "the cycle (?:diverges|explodes)"}}, "divergence"),
        ("stalls", {"timeout_s": 1.5}, "hangs"),
        ("breaks", {}, "exit code 1"),
    ],
)
def test_what_goes_wrong_has_a_name_and_another_process_gives_the_label(
    atoms, tmp_path, behaviour, options, reason
):
    engine = make(tmp_path, behaviour, **options)
    engine.open(atoms, tmp_path / "scratch")
    assert isinstance(engine.label(atoms, index=0), Labels)
    failure = engine.label(moved(atoms), index=1)
    assert isinstance(failure, LabelFailure)
    assert reason in failure.reason
    again = engine.label(moved(atoms), index=1, remedies=[failure.remedy])
    assert isinstance(again, Labels)
    engine.close()


def test_the_structure_file_has_no_symmetries(atoms, tmp_path):
    """Programs keep the symmetries of the structure that they start with."""
    import ase.io

    ideal = bulk("Cu", cubic=True)
    engine = make(tmp_path)
    engine.open(ideal, tmp_path / "scratch")
    labels = engine.label(ideal, index=0)
    engine.close()
    written = ase.io.read(tmp_path / "scratch" / "process-000000" / "start.xyz")
    off = np.abs(written.positions - ideal.positions)
    assert 0.001 < off.max() <= 0.01
    assert np.abs(labels.forces).max() < 1e-9, "but the ideal structure is what is computed"


def test_files_named_in_the_input_are_found(atoms, tmp_path):
    """Relative names in the input start from the template's folder."""
    (tmp_path / "basis").mkdir()
    (tmp_path / "basis" / "Cu.dat").write_text("s p d")
    engine = make(tmp_path)
    (tmp_path / "job.in").write_text("basis = 'basis/Cu.dat', other = 'none.dat' /etc/hostname\n")
    engine.open(atoms, tmp_path / "scratch")
    engine.label(atoms, index=0)
    engine.close()
    directory = tmp_path / "scratch" / "process-000000"
    assert (directory / "basis" / "Cu.dat").read_text() == "s p d"
    assert not (directory / "none.dat").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": "no-such-program {address}"}, "'no-such-program' is not found"),
        ({"program": "espreso"}, "'espreso' is not described; there are quantum-espresso, cp2k"),
        ({"template": "/nowhere/job.in"}, "/nowhere/job.in: cannot be read"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(atoms, tmp_path, options, message):
    with pytest.raises(EngineError, match=message):
        make(tmp_path, **options).open(atoms, tmp_path / "scratch")


def test_a_bad_expression_is_refused_with_its_key(tmp_path):
    with pytest.raises(ValueError, match="no regular expression"):
        make(tmp_path, failures={"x": "("})


def test_charge_and_spin_belong_to_the_template(tmp_path):
    engine_class = load_engine("ipi")
    options = engine_class.Options(command="true", template=tmp_path / "job.in")
    with pytest.raises(EngineError, match="tot_charge"):
        engine_class(options, charge=1, spin=0)

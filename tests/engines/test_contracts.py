"""Contract tests of all engines that ship."""

from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from otf.engines.contract import EngineContract
from otf.engines.labels import LabelFailure, Labels
from otf.engines.registry import load_engine
from otf.errors import EngineError


def crystal(name: str, **keywords: object) -> Atoms:
    atoms = bulk(name, cubic=True, **keywords)
    atoms.rattle(0.05, seed=2)
    return atoms


class TestTblite(EngineContract):
    kind = "tblite"
    options: ClassVar = {"method": "GFN2-xTB"}
    energy_eV = -137.96777625229421  # H2O; from tblite's documentation
    energy_tolerance_eV = 1e-4


class TestTblitePeriodic(EngineContract):
    kind = "tblite"
    options: ClassVar = {"method": "GFN1-xTB", "accuracy": 0.01}
    structure = molecule("H2O")
    crystal = crystal("C", a=3.6)
    stress_tolerance = 5e-4


class TestTbliteSmeared(EngineContract):
    """Partly occupied levels: forces are the derivatives of the free energy."""

    kind = "tblite"
    options: ClassVar = {"method": "GFN1-xTB", "electronic_temperature_K": 5000.0}
    structure = molecule("O3")


@pytest.mark.full
class TestPyscf(EngineContract):
    kind = "pyscf"
    options: ClassVar = {"xc": "pbe", "basis": "sto-3g", "tolerance_eV": 1e-8}
    structure = molecule("H2O")
    noise = 2e-3  # the integration grid follows the molecule only on its own axes
    # H2O at PBE is near -76.4 Ha in the complete-basis limit; STO-3G lies 1.2 Ha above.
    energy_eV = -75.2 * 27.2114
    energy_tolerance_eV = 0.3 * 27.2114


class TestAse(EngineContract):
    kind = "ase"
    options: ClassVar = {"calculator": "ase.calculators.emt:EMT"}
    structure = molecule("H2O")
    crystal = crystal("Cu")


def squeezed(atoms: Atoms, scale: float) -> Atoms:
    atoms.positions *= scale
    atoms.cell = scale * atoms.cell.array
    return atoms


class TestZbl(EngineContract):
    """Distances below half a bond length, within the switch and below it."""

    kind = "zbl"
    options: ClassVar = {"range": 1.0}
    structure = squeezed(molecule("CH3OH"), 0.7)
    crystal = squeezed(crystal("Cu"), 0.7)
    step = 1e-4
    stress_tolerance = 1e-3  # of 2 eV/A^3
    known = Atoms("H2", [(0, 0, 0), (0, 0, 0.4)])
    energy_eV = 36.0 * 0.2636  # e^2/r times phi(1.708), by hand
    energy_tolerance_eV = 0.01


@pytest.mark.full
class TestD3(EngineContract):
    kind = "d3"
    options: ClassVar = {"method": "PBE"}
    structure = molecule("C6H6")
    crystal = crystal("Cu")


@pytest.mark.full
class TestD4(EngineContract):
    kind = "d4"
    options: ClassVar = {"method": "PBE"}
    structure = molecule("C6H6")
    crystal = crystal("Cu")


def test_tblite_labels_are_the_same_to_the_last_bit():
    engine_class = load_engine("tblite")
    engine = engine_class(engine_class.Options(), charge=0, spin=0)
    atoms = molecule("CH3CH2OH")
    engine.open(atoms, None)
    answers = {engine.label(atoms, index=i).forces.tobytes() for i in range(20)}
    engine.close()
    assert len(answers) == 1


def test_tblite_charge_and_spin_matter():
    energies = []
    for charge, spin in ((0, 0), (1, 1)):
        engine_class = load_engine("tblite")
        engine = engine_class(engine_class.Options(), charge=charge, spin=spin)
        engine.open(molecule("CH4"), None)
        energies.append(engine.label(molecule("CH4"), index=0).energy)
        engine.close()
    assert energies[1] - energies[0] > 10.0  # ionisation


@pytest.mark.full
def test_pyscf_reuses_the_density_and_a_repeated_label_starts_from_the_same_one(tmp_path):
    engine_class = load_engine("pyscf")
    options = engine_class.Options(basis="def2-svp", grid_level=1, threads=1)
    atoms = molecule("H2O")
    moved = atoms.copy()
    moved.rattle(0.001, seed=1)

    engine = engine_class(options, charge=0, spin=0)
    engine.open(atoms, tmp_path)
    first = engine.label(atoms, index=0)
    second = engine.label(moved, index=1)
    engine.label(atoms, index=2)
    engine.close()
    assert second.scf_iterations < first.scf_iterations

    engine.open(atoms, tmp_path)  # as after a kill: label 2 is repeated
    again = engine.label(atoms, index=2)
    engine.close()
    fresh = engine_class(options, charge=0, spin=0)
    fresh.open(atoms, tmp_path / "other")
    scratch = fresh.label(atoms, index=2)
    fresh.close()
    assert again.scf_iterations < scratch.scf_iterations
    np.testing.assert_allclose(again.forces, scratch.forces, atol=5e-4)  # due to the tolerance


@pytest.mark.full
def test_pyscf_damaged_density_is_ignored(tmp_path):
    engine_class = load_engine("pyscf")
    engine = engine_class(engine_class.Options(basis="sto-3g", grid_level=1), charge=0, spin=0)
    atoms = molecule("H2O")
    engine.open(atoms, tmp_path)
    engine.label(atoms, index=0)
    (tmp_path / "density_000000.npy").write_bytes(b"garbage")
    assert isinstance(engine.label(atoms, index=1), Labels)
    engine.close()


@pytest.mark.full
def test_pyscf_unconverged_is_a_failure_with_remedies_in_order(tmp_path):
    engine_class = load_engine("pyscf")
    options = engine_class.Options(basis="sto-3g", grid_level=0, max_iterations=1)
    engine = engine_class(options, charge=0, spin=0)
    atoms = molecule("H2O")
    engine.open(atoms, tmp_path)
    failure = engine.label(atoms, index=0)
    assert isinstance(failure, LabelFailure)
    assert "did not converge in 1 cycles" in failure.reason
    assert failure.remedy == "level shift and more iterations"
    engine.close()


def test_tblite_converges_by_way_of_higher_electronic_temperatures(tmp_path):
    engine_class = load_engine("tblite")
    engine = engine_class(engine_class.Options(), charge=0, spin=0)
    stretched = molecule("SiF4")
    stretched.positions *= 1.9
    stretched.rattle(0.3, seed=3)
    engine.open(stretched, tmp_path)
    failure = engine.label(stretched, index=0)
    assert isinstance(failure, LabelFailure)
    assert "not converged in 250 cycles" in failure.reason
    labels = engine.label(stretched, index=0, remedies=[failure.remedy])
    assert isinstance(labels, Labels)
    engine.close()

    usual = molecule("SiF4")
    engine.open(usual, tmp_path)
    plain, annealed = (engine.label(usual, index=0, remedies=r) for r in ((), [failure.remedy]))
    np.testing.assert_allclose(annealed.forces, plain.forces, atol=1e-4)
    engine.close()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        pytest.param("pyscf", {"basis": "no-such-basis"}, "engine.basis", marks=pytest.mark.full),
        pytest.param("pyscf", {"xc": "nonsense"}, "engine.xc", marks=pytest.mark.full),
        ("ase", {"calculator": "no.such:Thing"}, "cannot be imported"),
        ("ase", {"calculator": "ase.calculators.emt:Emt"}, "cannot be imported"),
        (
            "ase",
            {"calculator": "ase.calculators.tip3p:TIP3P", "keywords": {"nonsense": 1}},
            "rejects",
        ),
    ],
)
def test_bad_options_are_named_when_the_engine_opens(tmp_path, kind, options, message):
    engine_class = load_engine(kind)
    engine = engine_class(engine_class.Options.model_validate(options), charge=0, spin=0)
    with pytest.raises(EngineError, match=message):
        engine.open(molecule("H2O"), tmp_path)


@pytest.mark.parametrize(
    ("charge", "spin", "message"),
    [(50, 0, "impossible with -40 electrons"), (0, 20, "impossible"), (0, 1, "impossible")],
)
def test_tblite_refuses_impossible_charge_and_spin(charge, spin, message):
    engine_class = load_engine("tblite")
    engine = engine_class(engine_class.Options(), charge=charge, spin=spin)
    with pytest.raises(EngineError, match=message):
        engine.open(molecule("CH4"), None)


def test_tblite_refuses_partial_periodicity():
    engine_class = load_engine("tblite")
    engine = engine_class(engine_class.Options(), charge=0, spin=0)
    slab = Atoms("C", cell=[3, 3, 20], pbc=(True, True, False))
    with pytest.raises(EngineError, match="T T T"):
        engine.open(slab, None)


def test_ase_engine_turns_any_failure_into_a_value():
    engine_class = load_engine("ase")
    options = engine_class.Options(calculator="ase.calculators.emt:EMT")
    engine = engine_class(options, charge=0, spin=0)
    engine.open(bulk("Si"), None)
    failure = engine.label(bulk("Si"), index=0)  # EMT does not support silicon
    assert isinstance(failure, LabelFailure)
    assert "NotImplementedError" in failure.reason
    other = engine_class(engine_class.Options(calculator="builtins:dict"), charge=0, spin=0)
    with pytest.raises(EngineError, match="not an ASE calculator"):
        other.open(bulk("Si"), None)


@pytest.mark.full
def test_odd_electrons_without_spin_are_named(tmp_path):
    engine_class = load_engine("pyscf")
    engine = engine_class(engine_class.Options(), charge=1, spin=0)
    with pytest.raises(EngineError, match="spin"):
        engine.open(molecule("H2O"), tmp_path)


def test_cores_repel_only_within_half_a_bond():
    engine_class = load_engine("zbl")
    engine = engine_class(engine_class.Options(), charge=0, spin=0)
    engine.open(molecule("CO"), None)
    for distance, repels in ((0.5, True), (0.76, False), (1.1, False)):
        label = engine.label(Atoms("CO", [(0, 0, 0), (0, 0, distance)]), index=0)
        assert (label.energy > 1.0) == repels
        assert (label.forces[0, 2] < -1.0) == repels
        assert repels or not label.forces.any()


@pytest.mark.full
@pytest.mark.parametrize("kind", ["d3", "d4"])
def test_a_functional_without_dispersion_parameters_is_named(kind, tmp_path):
    engine_class = load_engine(kind)
    engine = engine_class(engine_class.Options(method="LDX"), charge=0, spin=0)
    with pytest.raises(EngineError, match=rf"engine {kind}: .*method is the name of a density"):
        engine.open(molecule("CH4"), tmp_path)

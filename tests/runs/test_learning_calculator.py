"""A calculator that learns: relaxations and barriers as by the engine, with fewer labels."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import add_adsorbate, bulk, fcc100, molecule
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from ase.phonons import Phonons
from tblite.ase import TBLite

import otf
from otf.errors import ConfigError, FileError, RunError
from otf.io.labels import read_labels
from otf.postprocess.optimise import find_path, relax


class Counted(EMT):
    """EMT that counts its calculations."""

    count = 0

    def calculate(self, *arguments, **keywords):
        self.count += 1
        super().calculate(*arguments, **keywords)


class Failing(EMT):
    """EMT that gives nothing."""

    def calculate(self, *arguments, **keywords):
        raise RuntimeError("no licence")


def adatom(column: float = 0.0) -> Atoms:
    slab = fcc100("Al", size=(2, 2, 3))
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.center(axis=2, vacuum=4.0)
    slab.set_constraint(FixAtoms(mask=[atom.tag > 1 for atom in slab]))
    slab.positions[-1, 0] += column * slab.cell[0, 0] / 2
    return slab


def largest(forces) -> float:
    return float(np.sqrt((forces**2).sum(axis=1)).max())


def test_a_relaxation_ends_where_the_engines_does(tmp_path):
    start = molecule("C6H6")
    start.rattle(0.1, seed=3)
    plain, learned = start.copy(), start.copy()
    plain.calc = TBLite(method="GFN2-xTB", verbosity=0)
    reference = BFGS(plain, logfile=None)
    reference.run(fmax=0.02)
    with otf.LearningCalculator("tblite", tmp_path) as calculator:
        *_, end = relax(learned, calculator, fmax_eV_A=0.02, steps=200)
    assert end.by_engine
    assert end.force_eV_A <= 0.02
    assert end.energy_eV == pytest.approx(plain.get_potential_energy(), abs=1e-3)
    assert end.labels <= reference.nsteps / 2
    assert calculator.answers > end.labels


@pytest.mark.filterwarnings("ignore::UserWarning")  # of ase.phonons on acoustic modes
def test_phonons_by_finite_displacements(tmp_path):
    aluminium, found = bulk("Al", a=4.0), []
    settings = {"force_target_meV_A": 1.0}
    with otf.LearningCalculator(Counted(), tmp_path / "labels", **settings) as calculator:
        for number, used in enumerate((EMT(), calculator)):
            phonons = Phonons(
                aluminium, used, supercell=(3, 3, 3), delta=0.05, name=str(tmp_path / f"{number}")
            )
            phonons.run()
            phonons.read(acoustic=True)
            found.append(phonons.band_structure([[0.5, 0, 0.5], [0.5, 0.5, 0.5]], verbose=False))
        assert calculator.n_labels <= 3
        assert calculator.n_labels + calculator.answers == 7
    terahertz = 1e-12 / units._hplanck * units._e
    np.testing.assert_allclose(terahertz * found[1], terahertz * found[0], atol=0.02)


def test_answers_are_checked_at_random(tmp_path):
    rng, answers = np.random.default_rng(0), []
    with otf.LearningCalculator(EMT(), tmp_path, check_every=3) as calculator:
        for _ in range(25):
            atoms = bulk("Cu", cubic=True)
            atoms.positions += rng.normal(scale=0.05, size=(4, 3))
            atoms.calc = calculator
            before = len(calculator.checked_errors)
            answers.append(atoms.get_forces())
            atoms.calc = EMT()
            error = np.abs(atoms.get_forces() - answers[-1]).mean()
            if len(calculator.checked_errors) > before:
                assert calculator.checked_errors[-1] == pytest.approx(error)
        assert 2 <= len(calculator.checked_errors) < calculator.answers


def test_labels_are_kept_and_no_structure_is_labelled_twice(tmp_path):
    start = molecule("C2H6")
    start.rattle(0.05, seed=1)
    results = []
    for _ in range(2):
        engine = Counted()
        with otf.LearningCalculator(engine, tmp_path / "run") as calculator:
            atoms = start.copy()
            *_, end = relax(atoms, calculator, fmax_eV_A=0.05, steps=100)
        results.append((engine.count, end.energy_eV, end.labels))
    assert results[0][0] >= results[0][2] > 1
    assert results[1][0] <= 1  # the second path may leave the first one, by rounding
    assert len(read_labels(tmp_path / "run/labels.extxyz")) == results[1][2]
    assert results[1][1] == pytest.approx(results[0][1], abs=1e-3)


@pytest.mark.full
def test_the_barrier_of_an_adatom(tmp_path):
    with otf.LearningCalculator(EMT(), tmp_path) as calculator:
        ends = [adatom(), adatom(column=1.0)]
        for atoms in ends:
            assert list(relax(atoms, calculator, fmax_eV_A=0.05, steps=100))[-1].by_engine
        path = find_path(*ends, calculator, images=3, fmax_eV_A=0.05, steps=200)
        assert path.barrier_eV == pytest.approx(0.3740, abs=0.005)  # by EMT alone, 279 calculations
        assert calculator.n_labels < 279 / 5
        curves = path.curves()
    assert curves.y["energy_eV"].mean.argmax() == 2


@pytest.mark.full
def test_a_cell_is_relaxed_by_the_engines_stress(tmp_path):
    crystal = bulk("Cu", cubic=True, a=3.75)
    crystal.rattle(0.02, seed=1)
    with otf.LearningCalculator(EMT(), tmp_path) as calculator:
        *_, end = relax(crystal, calculator, fmax_eV_A=0.01, steps=200, cell=True)
    assert end.by_engine
    assert crystal.cell.lengths() == pytest.approx([3.59, 3.59, 3.59], abs=0.01)


@pytest.mark.full
def test_fixed_atoms_do_not_hide_small_forces(tmp_path):
    slab = adatom()
    with otf.LearningCalculator(EMT(), tmp_path) as calculator:
        *_, end = relax(slab, calculator, fmax_eV_A=0.01, steps=200)
        fixed = slab.constraints[0].index
        assert end.force_eV_A <= 0.01
        assert largest(calculator.by_engine(slab).forces[fixed]) > 0.01


def test_the_model_is_a_calculator_that_learns_no_more(tmp_path):
    atoms = molecule("CH4")
    with otf.LearningCalculator("tblite", tmp_path) as calculator:
        with pytest.raises(CalculationFailed, match="nothing was learned"):
            _ = calculator.model
        atoms.calc = calculator
        first = atoms.get_forces()
        labels = calculator.n_labels
        atoms.calc = calculator.model
        assert np.abs(atoms.get_forces() - first).max() < 0.05
        assert calculator.n_labels == labels == 1


def test_what_cannot_be_is_named(tmp_path):
    with pytest.raises(ConfigError, match="siesat"):
        otf.LearningCalculator("siesat", tmp_path / "a")
    with otf.LearningCalculator(Failing(), tmp_path / "b") as calculator:
        atoms = molecule("CH4")
        atoms.calc = calculator
        with pytest.raises(CalculationFailed, match="no licence"):
            atoms.get_forces()
    with otf.LearningCalculator(EMT(), tmp_path / "c") as calculator:
        calculator.by_engine(molecule("CH4"))
        with pytest.raises(CalculationFailed, match="has no O"):
            calculator.by_engine(molecule("H2O"))
        with pytest.raises(FileError, match="another otf is running here"):
            otf.LearningCalculator(EMT(), tmp_path / "c")
    with pytest.raises(FileError, match="labels of another engine"):
        otf.LearningCalculator("tblite", tmp_path / "c")
    with otf.LearningCalculator("tblite", tmp_path / "d") as calculator:
        calculator.by_engine(molecule("CH4"))
    with pytest.raises(FileError, match="of other settings"):
        otf.LearningCalculator("tblite", tmp_path / "d", config={"system": {"charge": 2}})
    run = otf.Run(molecule("CH4"), engine="tblite", directory=tmp_path / "run", steps=1)
    with pytest.raises(FileError, match="is a run; choose another directory"):
        otf.LearningCalculator("tblite", run.directory)


def test_a_relaxation_that_does_not_converge_says_so(tmp_path):
    with otf.LearningCalculator(EMT(), tmp_path) as calculator:
        stretched = molecule("C2H6")
        stretched.rattle(0.3, seed=2)
        with pytest.raises(RunError, match=r"not converged.*--steps"):
            list(relax(stretched, calculator, fmax_eV_A=1e-3, steps=2))


def test_a_baseline_and_a_net_force_are_those_of_the_configuration(tmp_path):
    cheap = {"kind": "ase", "calculator": "ase.calculators.emt:EMT"}
    sections = {"model": {"baseline": cheap, "net_force": "subtract"}}
    with otf.LearningCalculator("tblite", tmp_path, config=sections) as calculator:
        atoms = molecule("CH4")
        atoms.rattle(0.05, seed=1)
        label = calculator.by_engine(atoms)
        (term,) = calculator.model.model.baseline.terms
        assert term.name == "ase"
        assert np.abs(label.forces.sum(axis=0)).max() < 1e-12
    prior = {"model": {"baseline": {**cheap, "use": "prior_mean"}}}
    with (
        otf.LearningCalculator("tblite", tmp_path / "b", config=prior) as calculator,
        pytest.raises(ConfigError, match="needs the dynamics of a run"),
    ):
        calculator.by_engine(molecule("CH4"))

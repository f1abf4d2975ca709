"""Models that correct a baseline of cheap engines."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

import otf
from otf.config.reader import model_of
from otf.engines.labels import Labels
from otf.errors import ConfigError, EngineError, FileError, RunError
from otf.lammps import attach
from otf.lammps.export import export
from otf.learning.baseline import Baseline, BaselineError, EngineTerm, TermSettings
from otf.learning.model_file import read_model, write_model
from otf.learning.regression import Taught
from otf.model.descriptor import displaced
from otf.runs.assemble import make_trainer
from otf.runs.baseline import make_baseline

MORSE = {
    "kind": "ase",
    "calculator": "ase.calculators.morse:MorsePotential",
    "keywords": {"epsilon": 0.4, "r0": 2.6, "rho0": 4.0},
}
MODULE = """
from ase.calculators.emt import EMT

class Own(EMT):
    pass
"""


def copper(seed, layers=1) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", cubic=True) * (1, 1, layers)
    strain = np.eye(3) + rng.normal(scale=0.01, size=(3, 3))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
    return atoms


def labels_of(atoms) -> Labels:
    atoms.calc = EMT()
    return Labels(atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False))


def trained(*terms, count=6, **model):
    section = model_of(
        {"radial_three": 2, "l_max": 2, "stress_noise_GPa": 0.1, "baseline": list(terms), **model}
    )
    baseline = make_baseline(section, copper(0))
    trainer = make_trainer(section, displaced(bulk("Cu", cubic=True), seed=0), baseline=baseline)
    for i in range(count):
        atoms = copper(i)
        trainer.learn(atoms, labels_of(atoms), time_fs=30.0 * i, audited=True)
    return trainer


@pytest.fixture(scope="module")
def corrected():
    return trained(MORSE)


def test_nothing_is_left_to_learn_of_the_engine_itself():
    model = trained({"kind": "ase", "calculator": "ase.calculators.emt:EMT"}, count=2).force_model
    for atoms in (copper(50), copper(51, layers=2)):
        found, wanted = model.predict(atoms), labels_of(atoms)
        assert np.abs(found.forces - wanted.forces).max() < 1e-6
        assert found.energy == pytest.approx(wanted.energy, abs=1e-6)
        assert np.abs(found.stress - wanted.stress).max() < 1e-8
    assert np.abs(model.learned(copper(50)).forces).max() < 1e-6


def test_terms_are_added():
    alone, both = trained(MORSE, count=2), trained(MORSE, {"kind": "zbl", "range": 1.0}, count=2)
    close = copper(3)
    close.positions[1] = close.positions[0] + [1.6, 0, 0]
    (morse,), (_, zbl) = (t.force_model.baseline.terms for t in (alone, both))
    wanted = morse.label(close).forces + zbl.label(close).forces
    predicted, learned = both.predict(close), both.force_model.learned(close)
    assert np.abs(zbl.label(close).forces).max() > 1.0
    assert np.abs(predicted.forces - learned.forces - wanted).max() < 1e-9


def test_a_prediction_is_the_baseline_plus_what_was_learned(corrected):
    model, atoms = corrected.force_model, copper(60)
    learned, found = model.learned(atoms), model.predict(atoms)
    morse = EngineTerm(TermSettings(MORSE["kind"], {k: MORSE[k] for k in MORSE if k != "kind"}))
    cheap = morse.label(atoms)
    assert found.energy == pytest.approx(cheap.energy + learned.energy, rel=1e-12)
    assert found.forces == pytest.approx(cheap.forces + learned.forces, rel=1e-12)
    assert found.stress == pytest.approx(cheap.stress + learned.stress, rel=1e-12)
    assert found.atomic_energies.sum() == pytest.approx(found.energy, rel=1e-12)
    wanted = labels_of(atoms)
    assert np.abs(found.forces - wanted.forces).mean() < 0.3 * np.abs(wanted.forces).mean()


def test_forces_and_stress_are_the_derivatives_of_the_energy(corrected):
    model, atoms, step = corrected.force_model, copper(61), 1e-4
    found = model.predict(atoms)
    for atom, axis in ((0, 0), (3, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(model.predict(moved).energy)
        slope = (energies[0] - energies[1]) / (2 * step)
        assert found.forces[atom, axis] == pytest.approx(-slope, abs=2e-6)
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * (1 + sign * step), scale_atoms=True)
        energies.append(model.predict(strained).energy)
    slope = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
    assert np.trace(found.stress) == pytest.approx(slope, abs=1e-6)


@pytest.mark.full
def test_a_baseline_spares_labels():
    cheap = {"kind": "tblite", "method": "GFN1-xTB"}
    rng = np.random.default_rng(3)
    start = molecule("CH3OH")
    dear = EngineTerm(TermSettings("tblite", {"method": "GFN2-xTB"}))

    def moved():
        atoms = start.copy()
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        return atoms

    train, test = [moved() for _ in range(6)], [moved() for _ in range(6)]
    errors = []
    for terms in ([cheap], []):
        section = model_of({"baseline": terms})
        trainer = make_trainer(
            section, displaced(start, seed=0), baseline=make_baseline(section, start)
        )
        for i, atoms in enumerate(train):
            trainer.learn(atoms, dear.label(atoms), time_fs=30.0 * i, audited=True)
        off = [trainer.predict(atoms).forces - dear.label(atoms).forces for atoms in test]
        errors.append(np.abs(off).mean())
    assert errors[0] < 0.5 * errors[1]


def learned_with(term, *, optional, count=14):
    """A trainer of copper, and one that was restored from its state."""
    section = model_of({"radial_three": 2, "l_max": 2})
    data = [
        Taught(atoms, labels_of(atoms), 60.0 * i)
        for i, atoms in enumerate(map(copper, range(count)))
    ]
    trainers = [
        make_trainer(
            section,
            displaced(bulk("Cu", cubic=True), seed=0),
            baseline=Baseline([EngineTerm(term)], optional=optional),
        )
        for _ in range(2)
    ]
    for atoms, labels, time_fs, _ in data:
        trainers[0].learn(atoms, labels, time_fs=time_fs, audited=True)
    trainers[1].restore(trainers[0].capture(), data)
    return trainers


@pytest.mark.parametrize("optional", [True, False])
def test_an_optional_baseline_is_dropped_where_it_is_worth_nothing(optional):
    repulsive = {**MORSE["keywords"], "epsilon": 4.0, "rho0": 9.0}
    term = TermSettings("ase", {"calculator": MORSE["calculator"], "keywords": repulsive})
    one, other = learned_with(term, optional=optional)
    gain = one.capture().gain
    assert gain.error > gain.error_without
    assert gain.dropped is optional
    assert one.force_model.baseline.terms == () if optional else one.force_model.baseline.terms
    for atoms in (copper(70), copper(71)):
        found = one.predict(atoms)
        assert found.forces.tobytes() == other.predict(atoms).forces.tobytes()
        if optional:
            wanted = labels_of(atoms)
            assert np.abs(found.forces - wanted.forces).mean() < 0.1
            assert found.energy == pytest.approx(wanted.energy, abs=0.05)


def test_an_optional_baseline_is_kept_where_it_is_worth_something():
    one, _ = learned_with(
        TermSettings("ase", {"calculator": "ase.calculators.emt:EMT"}), optional=True
    )
    gain = one.capture().gain
    assert not gain.dropped
    assert gain.error < 0.1 * gain.error_without
    assert str(gain).startswith("baseline ase: left-out error ")


def test_the_file_of_a_model_holds_its_baseline(corrected, tmp_path):
    write_model(tmp_path / "model.h5", corrected.force_model)
    loaded, atoms = otf.load_model(tmp_path / "model.h5"), copper(62)
    for model in (loaded.model, pickle.loads(pickle.dumps(corrected.force_model))):
        found, wanted = model.predict(atoms), corrected.predict(atoms)
        assert found.energy == pytest.approx(wanted.energy, rel=1e-12)
        assert found.forces == pytest.approx(wanted.forces, rel=1e-9)
    atoms.calc = loaded
    assert atoms.get_stress() == pytest.approx(
        corrected.predict(atoms).stress.ravel()[[0, 4, 8, 5, 2, 1]], rel=1e-9
    )


def test_files_of_a_baseline_may_move_with_the_model(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    (here / "own.py").write_text(MODULE)
    term = {"kind": "ase", "calculator": "own:Own", "module": str(here / "own.py")}
    model, atoms = trained(term, count=2).force_model, copper(63)
    wanted = model.predict(atoms).energy
    write_model(here / "model.h5", model)
    here.rename(tmp_path / "there")
    assert read_model(tmp_path / "there" / "model.h5").predict(atoms).energy == wanted


def test_a_model_of_another_user_does_not_run_its_baseline(corrected, tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    path = tmp_path / "model.h5"
    write_model(path, corrected.force_model)
    os.chown(path, 12345, 12345)
    with pytest.raises(FileError, match=r"another user, and its baseline would run ase .*Morse"):
        read_model(path)


def test_lammps_refuses_a_baseline_by_name(corrected, tmp_path):
    path = tmp_path / "model.h5"
    write_model(path, corrected.force_model)
    with pytest.raises(RunError, match=r"its baseline \(ase\) cannot be evaluated by LAMMPS"):
        export(corrected.force_model, path, copper(0), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(RunError, match=r"its baseline \(ase\) cannot be evaluated by LAMMPS"):
        attach(None, path, ["Cu"])


def test_a_failure_is_that_of_the_baseline():
    collapsed = molecule("H2O")
    collapsed.positions[1] = collapsed.positions[0]
    term = EngineTerm(TermSettings("tblite", {}))
    term.label(molecule("H2O"))
    with pytest.raises(
        BaselineError, match=r"model\.baseline, tblite: no forces at this structure"
    ):
        Baseline([term]).subtracted_from(
            Labels(0.0, np.zeros((3, 3))), collapsed, needs_stress=False
        )
    wrong = EngineTerm(TermSettings("tblite", {}, spin=1))
    with pytest.raises(EngineError, match=r"model\.baseline, tblite: system\.spin 1"):
        wrong.label(molecule("H2O"))


def test_a_stress_that_is_missing_is_said(tmp_path):
    (tmp_path / "own.py").write_text(
        MODULE.replace("    pass", '    implemented_properties = ["energy", "forces"]')
    )
    term = {"kind": "ase", "calculator": "own:Own", "module": str(tmp_path / "own.py")}
    with pytest.raises(EngineError, match=r"model.baseline \(ase\): gives no stress"):
        trained(term, count=1)
    assert trained(term, count=1, stress_noise_GPa=None).n_labels == 1


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ({"kind": "tblite", "metod": "GFN1-xTB"}, "model.baseline.metod: unknown key, did you"),
        ([{"kind": "tblite"}, {"kind": "emt"}], "model.baseline.1.kind: no engine is called 'emt'"),
        ({"method": "GFN1-xTB"}, "model.baseline.*kind: is missing"),
        ("tblite", "model.baseline: .*valid list"),
        (
            {"kind": "siesta", "template": "missing.fdf"},
            "model.baseline.template: there is no /.*missing.fdf",
        ),
    ],
)
def test_mistakes_are_named(baseline, message):
    with pytest.raises(ConfigError, match=message):
        model_of({"baseline": baseline})


def test_one_term_needs_no_list():
    assert model_of({"baseline": {"kind": "tblite"}}) == model_of(
        {"baseline": [{"kind": "tblite"}]}
    )
    with_file = model_of({"baseline": {**MORSE, "module": os.path.relpath(__file__)}})
    assert Path(with_file.baseline[0].options["module"]).is_absolute()

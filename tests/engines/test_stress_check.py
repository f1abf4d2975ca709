"""Engines whose stress is not the derivative of their energy are named."""

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT

from otf.config.reader import config_of
from otf.engines.calculator import CalculatorEngine
from otf.engines.labels import Labels
from otf.engines.stress_check import strained, stress_problem
from otf.postprocess.doctor import try_job
from otf.runs.create import write_run
from otf.runs.session import open_session


def labelled(atoms) -> Labels:
    atoms = atoms.copy()
    atoms.calc = EMT()
    stress = atoms.get_stress(voigt=False)
    return Labels(atoms.get_potential_energy(), atoms.get_forces(), stress)


def crystal(a: float = 3.61):
    atoms = bulk("Cu", cubic=True, a=a)
    atoms.rattle(0.05, seed=1)
    return atoms


def in_another_order(stress):
    """The last three components of Voigt's order, yz, xz, xy, as xy, xz, yz."""
    other = stress.copy()
    other[1, 2] = other[2, 1] = stress[0, 1]
    other[0, 1] = other[1, 0] = stress[1, 2]
    return other


@pytest.mark.parametrize("a", [3.5, 3.61, 3.8])
def test_right_stresses_are_not_doubted(a):
    one, other = (labelled(atoms) for atoms in (crystal(a), strained(crystal(a))))
    assert stress_problem(one, other, volume=a**3, noise=0.0) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda stress: -stress, "it has the wrong sign"),
        (in_another_order, "its shear components are in another order"),
        (lambda stress: stress / units.GPa, "it is in GPa instead of"),
        (lambda stress: stress * units.GPa, "it was converted from GPa twice"),
        (lambda stress: 3.0 * stress, "is not the derivative of the energy"),
    ],
)
def test_wrong_stresses_are_named(wrong, said):
    one, other = (
        replace(labels, stress=wrong(labels.stress))
        for labels in (labelled(atoms) for atoms in (crystal(), strained(crystal())))
    )
    found = stress_problem(one, other, volume=3.61**3, noise=0.0)
    assert found is not None
    assert said in found


def test_an_engine_without_stress_has_no_wrong_one():
    labels = Labels(-1.0, np.zeros((4, 3)))
    assert stress_problem(labels, labels, volume=1.0, noise=0.0) is None


class Flipped(CalculatorEngine):
    """EMT with the opposite sign of the stress."""

    def __init__(self):
        super().__init__(EMT(), name="EMT")

    def label(self, atoms, *, index, remedies=(), guess=None):
        labels = super().label(atoms, index=index, remedies=remedies, guess=guess)
        return replace(labels, stress=-labels.stress)


@pytest.mark.parametrize(("ensemble", "warned"), [("npt", 1), ("csvr", 0)])
def test_a_run_warns_of_a_wrong_stress_where_it_is_learned(tmp_path, caplog, ensemble, warned):
    config = config_of(
        {
            "system": {"bulk": {"name": "Cu", "cubic": True}},
            "engine": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
            "dynamics": {"ensemble": ensemble, "steps": 3, "timestep_fs": 2.0},
        },
        tmp_path,
    )
    run = write_run(config, crystal(), tmp_path / "run")
    for _ in range(2):  # once only
        with open_session(run, config, crystal(), engine=Flipped()) as session:
            for _record in session.records():
                pass
    assert caplog.text.count("it has the wrong sign); do not use the stress") == warned
    assert run.strained.exists() == bool(warned)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("Flip", "its forces have the wrong sign"),
        ("Stale", "to the last bit, for different positions"),
        ("Sign", "of the cell the energy changes"),
        ("Right", None),
    ],
)
def test_the_doctor_names_what_is_wrong(tmp_path, how, said):
    crystal().write(tmp_path / "a.traj")
    (tmp_path / "a.yaml").write_text(
        "system: {structure: a.traj}\n"
        f"engine: {{kind: ase, calculator: 'wrong_calculators:{how}'}}\n"
        "dynamics: {steps: 3, timestep_fs: 2.0}\n"
    )
    problems = try_job(tmp_path / "a.yaml", compute=True).problems
    if said is None:
        assert problems == ()
    else:
        assert said in problems[0]

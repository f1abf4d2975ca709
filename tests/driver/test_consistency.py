"""Engines whose forces are not the derivatives of their energy are named within three labels."""

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet

from otf.driver.consistency import ForceEnergyCheck
from otf.engines.labels import Labels

ATOMIC = units.Hartree / units.Bohr


def labels_of_steps(count: int, *, repeat: int = 1, temperature_K: float = 300.0, seed: int = 1):
    atoms = bulk("Cu", cubic=True).repeat((repeat, 1, 1))
    atoms.calc = EMT()
    widths = np.sqrt(atoms.get_masses() * units.kB * temperature_K)
    atoms.set_momenta(np.random.default_rng(seed).normal(size=(len(atoms), 3)) * widths[:, None])
    dynamics = VelocityVerlet(atoms, 2.0 * units.fs)
    for _ in range(count):
        yield atoms.copy(), Labels(atoms.get_potential_energy(), atoms.get_forces())
        dynamics.run(1)


def spoilt(labels: Labels, mode: str, number: int, first: Labels) -> Labels:
    match mode:
        case "stale":
            return first
        case "stale energy":
            return replace(labels, energy=first.energy)
        case "stale forces":
            return replace(labels, forces=first.forces)
        case "hartree/bohr":
            return replace(labels, forces=labels.forces / ATOMIC)
        case "twice":
            return replace(labels, forces=labels.forces * ATOMIC)
        case "sign":
            return replace(labels, forces=-labels.forces)
        case "scaled":
            return replace(labels, forces=2.0 * labels.forces)
        case "drift":
            return replace(labels, energy=labels.energy + 0.2 * number)
    return labels


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("stale", "its forces are the same, to the last bit"),
        ("stale forces", "its forces are the same, to the last bit"),
        ("stale energy", "not the derivatives of this energy"),
        ("hartree/bohr", "in hartree/bohr instead of eV/Angstrom"),
        ("twice", "converted from hartree/bohr twice"),
        ("sign", "have the wrong sign"),
        ("scaled", "not the derivatives of this energy"),
        ("drift", "not the derivatives of this energy"),
    ],
)
def test_wrong_engines_are_named(mode, said):
    check, first, found = ForceEnergyCheck(), None, None
    for number, (atoms, labels) in enumerate(labels_of_steps(6, temperature_K=600.0)):
        first = first or labels
        found = found or check.add(atoms, spoilt(labels, mode, number, first))
    assert found is not None
    assert said in found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("repeat", "temperature_K"), [(1, 100.0), (1, 1500.0), (4, 600.0)])
def test_right_engines_are_not_doubted(seed, repeat, temperature_K):
    check = ForceEnergyCheck()
    rng = np.random.default_rng(seed)
    for atoms, labels in labels_of_steps(60, repeat=repeat, temperature_K=temperature_K, seed=seed):
        noisy = replace(labels, forces=labels.forces + rng.normal(0.0, 0.02, labels.forces.shape))
        assert check.add(atoms, noisy) is None


@pytest.mark.parametrize("every", [3, 10, 40])
def test_labels_farther_apart_are_compared_as_far_as_they_show_something(every):
    """At 1500 K the atoms move by up to 0.6 Angstrom in 40 steps."""
    for temperature_K in (100.0, 1500.0):
        check = ForceEnergyCheck()
        wrong = ForceEnergyCheck()
        found = []
        for number, (atoms, labels) in enumerate(
            labels_of_steps(10 * every, repeat=3, temperature_K=temperature_K)
        ):
            if number % every == 0:
                assert check.add(atoms, labels) is None
                found.append(wrong.add(atoms, replace(labels, forces=50.0 * labels.forces)))
        assert any(found) or every == 40


def test_a_jump_to_another_state_is_no_contradiction():
    check = ForceEnergyCheck()
    for number, (atoms, labels) in enumerate(labels_of_steps(12)):
        jumped = replace(labels, energy=labels.energy + (1.0 if number > 4 else 0.0))
        assert check.add(atoms, jumped) is None

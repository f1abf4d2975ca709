"""Domains with halos: their sum equals the result for the whole structure."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from otf.config.schema import Model
from otf.engines.labels import Labels
from otf.model.descriptor import displaced
from otf.model.domain import Domain
from otf.runs.assemble import make_trainer


def taught(atoms: Atoms, **settings) -> object:
    """A model trained on random labels."""
    rng = np.random.default_rng(3)
    trainer = make_trainer(Model(**settings), displaced(atoms, seed=1))
    for k in range(4):
        moved = atoms.copy()
        moved.positions += rng.normal(scale=0.05, size=moved.positions.shape)
        forces = rng.normal(size=moved.positions.shape)
        forces -= forces.mean(axis=0)
        labels = Labels(energy=float(k), forces=forces, wall_s=0.0)
        trainer.learn(moved, labels, time_fs=100.0 * k, audited=True)
    return trainer.force_model


def images(atoms: Atoms, halo: float) -> tuple[np.ndarray, np.ndarray]:
    """Atoms of the cell and of the images within a halo."""
    reach = np.ceil(halo * np.linalg.norm(np.linalg.inv(atoms.cell.complete().array), axis=0)) + 1
    spans = [np.arange(-r, r + 1) if p else [0] for r, p in zip(reach.astype(int), atoms.pbc)]
    shifts = np.array(np.meshgrid(*spans, indexing="ij")).reshape(3, -1).T
    shifts = shifts[np.argsort(np.abs(shifts).sum(axis=1), kind="stable")]
    positions = (atoms.positions + (shifts @ atoms.cell.array)[:, None]).reshape(-1, 3)
    return positions, np.tile(atoms.numbers, len(shifts))


SYSTEMS = {
    "triclinic": (
        bulk("Al", a=4.05).repeat((3, 2, 2)),
        {"cutoff_two_A": 4.5, "cutoff_three_A": 4.0},
    ),
    "two species": (bulk("NaCl", "rocksalt", a=5.6, cubic=True), {"cutoff_two_A": 4.5}),
    "classes": (molecule("CH3CH2OH"), {"sharing": "environment"}),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_domains_give_what_the_whole_gives(name):
    atoms, settings = SYSTEMS[name]
    model = taught(atoms, **settings)
    rng = np.random.default_rng(4)
    atoms = atoms.copy()
    domains = [Domain(model.energy_model, model.tensors) for _ in range(3)]
    owner = rng.integers(0, 3, len(atoms))
    for scale in (0.1, 0.02, 0.4):  # neighbour lists are built, reused, rebuilt
        atoms.positions += rng.normal(scale=scale, size=atoms.positions.shape)
        whole = model.energy_model.evaluate(atoms, model.tensors)
        forces = np.zeros((len(atoms), 3))
        energies, virial = np.zeros(len(atoms)), np.zeros((3, 3))
        positions, numbers = images(atoms, domains[0].halo)
        for k, domain in enumerate(domains):
            own = np.flatnonzero(owner == k)
            if len(own) == 0:
                continue
            away = np.min(np.linalg.norm(positions[:, None] - atoms.positions[own], axis=2), axis=1)
            rest = np.setdiff1d(np.flatnonzero(away < domain.halo + 1.0), own)
            order = np.concatenate([own, rest])
            found = domain.evaluate(numbers[order], positions[order], len(own))
            forces[own], energies[own] = found.forces, found.energies
            virial += found.virial
        np.testing.assert_allclose(forces, whole.forces, atol=1e-10)
        np.testing.assert_allclose(energies, whole.atomic_energies, atol=1e-10)
        if whole.stress is not None:
            np.testing.assert_allclose(virial / atoms.get_volume(), whole.stress, atol=1e-10)


def test_a_domain_without_atoms_has_nothing():
    atoms = molecule("CH4")
    model = taught(atoms)
    domain = Domain(model.energy_model, model.tensors)
    for positions in (np.zeros((0, 3)), atoms.positions):
        found = domain.evaluate(atoms.numbers[: len(positions)], positions, 0)
        assert found.forces.shape == (0, 3)
        assert not found.virial.any()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"sharing": "atom"}, "sharing: atom"), ({"coupling": "self"}, "coupling: self")],
)
def test_models_that_only_know_their_own_system_are_refused(settings, reason):
    model = taught(molecule("CH4"), **settings)
    with pytest.raises(ValueError, match=reason):
        Domain(model.energy_model, model.tensors)

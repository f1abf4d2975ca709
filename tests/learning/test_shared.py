"""A model shared by replicas, restored from the order in which their labels arrived."""

import numpy as np
import pytest
from ase.build import bulk

from otf.config.schema import Model
from otf.engines.labels import Labels
from otf.errors import RunError
from otf.learning.regression import Taught
from otf.learning.shared import ReplicaTrainer, SharedTrainer
from otf.model.descriptor import displaced
from otf.runs.assemble import make_trainer

ATOMS = bulk("Al", a=4.05, cubic=True)


def fresh() -> SharedTrainer:
    return SharedTrainer(make_trainer(Model(), displaced(ATOMS, seed=1)))


def label(seed: int):
    rng = np.random.default_rng(seed)
    moved = ATOMS.copy()
    moved.positions += rng.normal(scale=0.05, size=moved.positions.shape)
    forces = rng.normal(size=moved.positions.shape)
    return moved, Labels(energy=float(seed), forces=forces - forces.mean(axis=0), wall_s=0.0)


def test_each_replica_counts_its_own_and_all_know_everything():
    shared = fresh()
    parts = [ReplicaTrainer(shared, k) for k in range(3)]
    taught: list[list] = [[], [], []]
    states = []
    for i, replica in enumerate([0, 2, 2, 0, 1, 2, 0]):
        atoms, labels = label(i)
        parts[replica].learn(atoms, labels, time_fs=5.0 * i, audited=i % 2 == 0)
        taught[replica].append(Taught(atoms, labels, 5.0 * i, replica))
        if i == 5:
            states = [part.capture() for part in parts]
    assert [part.n_labels for part in parts] == [3, 1, 3]
    probe = label(99)[0]
    expected = parts[1].predict(probe).forces
    again = fresh()
    again.restore(states, taught)  # the last label is on disk, but in no checkpoint
    assert again.replicas == [0, 2, 2, 0, 1, 2, 0]
    np.testing.assert_allclose(again.trainer.predict(probe).forces, expected, atol=1e-9)
    complete = fresh()
    complete.restore([part.capture() for part in parts], taught)
    found = complete.trainer.predict(probe).forces
    assert found.tobytes() == expected.tobytes()
    with pytest.raises(RunError, match="replica 2: labels are missing"):
        fresh().restore([parts[0].capture()], [taught[0], taught[1], taught[2][:1]])

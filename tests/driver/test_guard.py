"""The guard: when it looks, and what it does about fast atoms."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from otf.driver.guard import Guard
from otf.driver.loop import drive
from otf.driver.policy import PolicyState
from otf.io.committed import ENGINE
from tests.driver.test_loop_in_memory import (
    Distrustful,
    MemoryLabels,
    crystal,
    parts_of,
    segments,
)

STATE = PolicyState(gap=100.0, by_engine=False)


class Asking(Distrustful):
    """Asks for a label at every look."""

    def guard_fires(self, state, predicted_error, *, step):
        return True


@pytest.fixture
def guard():
    """A guard that looks every ten steps, of a model that has learned some labels."""
    parts = parts_of(crystal(), MemoryLabels())
    list(drive(parts))
    policy = Asking(target=0.005, gap_max=100, guard=3.0, guard_every=10)
    return Guard(replace(parts, policy=policy))


def test_it_looks_every_so_many_steps_and_once_an_atom_has_moved_far(guard):
    atoms = guard._atoms
    guard.begin(atoms.get_positions())
    forces = np.zeros((len(atoms), 3))

    def looks(done: int) -> bool:
        return guard.alarm(STATE, 1000 + done, done, forces) == "guard"

    assert [looks(done) for done in range(1, 21)] == [done % 10 == 0 for done in range(1, 21)]
    found = []
    for done in range(27, 34):
        atoms.positions[0, 0] += 0.2
        found.append(looks(done))
    assert found == [False, False, True, True, False, False, True]  # at 30 as ever


def test_a_replay_is_committed_up_to_the_look_before_a_doubt(guard):
    atoms = guard._atoms
    guard.begin(atoms.get_positions())
    assert [guard.doubt(STATE, 1000 + done, done, 35) for done in range(1, 20)] == [None] * 19
    assert guard.trusted == 10
    assert guard.doubt(STATE, 1020, 20, 35) == "guard"
    guard.begin(atoms.get_positions())
    atoms.positions[1] += 0.6  # before the first regular look
    assert guard.doubt(STATE, 1003, 3, 35) == "guard"
    assert guard.trusted == 0


def test_the_end_of_a_replay_is_doubted_where_it_is_far_from_its_label(guard):
    positions = guard._atoms.get_positions()
    assert not guard.doubts_end(STATE, 1000, positions)
    assert not guard.doubts_end(STATE, 1000, positions + 0.05)
    assert guard.doubts_end(STATE, 1000, positions + 0.2)


def test_the_engine_takes_over_where_no_step_is_trusted(caplog):
    """An atom that flies past a crystal, 0.3 A a step, moves far before the first regular look."""
    atoms = crystal() + Atoms("Al", positions=[[20.0, 0.0, 0.0]])
    atoms.pbc = False
    atoms.set_velocities(np.array([[0.0, 0.0, 0.0]] * 4 + [[3.0, 0.0, 0.0]]))
    given = {"ensemble": "nve", "timestep_fs": 1.0, "steps": 30, "velocities": "structure"}
    parts = parts_of(atoms, MemoryLabels(), **given)
    policy = Distrustful(target=0.005, gap_max=15, guard=3.0, guard_every=10, audit_fraction=0.0)
    found = segments(drive(replace(parts, policy=policy)))
    frames = [frame for segment in found for frame in segment.frames]
    assert [frame.step for frame in frames] == list(range(31))
    assert sum(frame.source == ENGINE for frame in frames) > 5
    assert "no step is trusted; the engine takes over" in caplog.text

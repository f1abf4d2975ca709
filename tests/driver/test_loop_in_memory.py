"""The loop without a file: parts, records, and what must hold of them whatever the engine."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from emt_calculators import Forgetful
from hypothesis import given, settings
from hypothesis import strategies as st

from otf.config.reader import config_of
from otf.driver.adaptive_policy import AdaptivePolicy
from otf.driver.loop import drive
from otf.driver.records import Activity, Segment
from otf.engines.calculator import CalculatorEngine
from otf.errors import RunError
from otf.io.committed import ENGINE, MODEL
from otf.io.labels import StoredLabel, same_geometry
from otf.runs.assemble import make_parts


class MemoryLabels:
    """Labels in a list."""

    path = Path("memory")

    def __init__(self):
        self.stored = []

    def __len__(self):
        return len(self.stored)

    def __getitem__(self, index):
        return self.stored[index]

    def find(self, index, step, atoms):
        if index < len(self.stored) and same_geometry(self.stored[index].atoms, atoms):
            return self.stored[index].labels
        return None

    def append(self, step, atoms, labels):
        self.stored.append(StoredLabel(len(self.stored), step, atoms.copy(), labels))

    def refusal(self, step, atoms):
        return ""

    def refuse(self, step, atoms, labels, reason):
        raise AssertionError(reason)


class Failing(EMT):
    """Fails at every call from the n-th on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def calculate(self, *args, **more):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("out of order")
        super().calculate(*args, **more)


def parts_of(atoms: Atoms, labels: MemoryLabels, calculator=None, policy=None, **dynamics):
    sections = {
        "system": {"molecule": "H"},
        "engine": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
        "dynamics": {"timestep_fs": 2.0, "steps": 60} | dynamics,
        "model": {"radial_three": 2, "l_max": 2, "order": 1},
        "policy": {"force_target_meV_A": 5.0, "gap_max": 15} | (policy or {}),
    }
    engine = CalculatorEngine(calculator or Forgetful(), name="EMT")
    return make_parts(config_of(sections, Path()), atoms, engine, labels)


def crystal() -> Atoms:
    return bulk("Al", cubic=True)


def segments(records) -> list[Segment]:
    return [r for r in records if isinstance(r, Segment)]


def test_a_run_of_fifteen_lines():
    labels = MemoryLabels()
    found = segments(drive(parts_of(crystal(), labels)))
    frames = [frame for segment in found for frame in segment.frames]
    assert [frame.step for frame in frames] == list(range(61))
    assert {frame.source for frame in frames} == {ENGINE, MODEL}
    assert len(labels) == len(found[-1].state.history) == sum(len(s.labels) for s in found)
    energies = [frame.conserved_energy for frame in frames]
    assert np.ptp(energies) < 2e-3


@given(stop=st.integers(0, 40))
@settings(max_examples=8)
def test_any_record_is_a_place_to_stop_and_resume(stop):
    labels = MemoryLabels()
    whole = segments(drive(parts_of(crystal(), labels, ensemble="langevin")))
    state, frames = None, []
    store = MemoryLabels()
    for number, record in enumerate(drive(parts_of(crystal(), store, ensemble="langevin"))):
        if isinstance(record, Segment):
            state, frames = record.state, frames + record.frames
        if number >= stop:
            break
    rest = segments(drive(parts_of(crystal(), store, ensemble="langevin"), state))
    frames += [frame for segment in rest for frame in segment.frames]
    expected = [frame for segment in whole for frame in segment.frames]
    assert len(frames) == len(expected)
    for one, other in zip(frames, expected, strict=True):
        assert one.positions.tobytes() == other.positions.tobytes()
        assert one.momenta.tobytes() == other.momenta.tobytes()


class Distrustful(AdaptivePolicy):
    """Trusts no replay, and asks for no label itself."""

    def guard_level(self, state):
        return float("inf")

    def guard_fires(self, state, predicted_error, *, step):
        return False

    def bond_fires(self, state, predicted_error):
        return False

    def trusted_level(self, state, *, step):
        return 0.0


def test_a_replay_in_doubt_is_committed_as_far_as_the_first_look():
    parts = parts_of(crystal(), MemoryLabels())
    policy = Distrustful(target=0.005, gap_max=15, guard=3.0, guard_every=4, audit_fraction=0.0)
    found = segments(drive(replace(parts, policy=policy)))
    frames = [frame for segment in found for frame in segment.frames]
    assert [frame.step for frame in frames] == list(range(61))
    lengths = [len(s.frames) for s in found if s.frames and s.frames[0].source == MODEL]
    assert max(lengths) < 3 * 4  # neither the first nor the last four steps are doubted
    assert lengths.count(4) > 5


def test_an_engine_that_fails_ends_the_run_and_leaves_what_was_yielded():
    labels, found = MemoryLabels(), []
    with pytest.raises(RunError, match=r"no label: RuntimeError: out of order"):
        found.extend(drive(parts_of(crystal(), labels, Failing(7))))
    assert len(labels) == 7
    assert sum(len(s.labels) for s in segments(found)) == 6  # the audit of the last segment failed


def test_activities_announce_what_follows():
    kinds = [
        r.phase if isinstance(r, Activity) else "commit"
        for r in drive(parts_of(crystal(), MemoryLabels(), steps=30))
    ]
    assert kinds[:2] == ["label", "commit"]
    assert {"label", "predict", "replay", "commit"} == set(kinds)
    assert kinds[-1] == "commit"


def test_the_fixed_policy_labels_as_it_says():
    labels = MemoryLabels()
    policy = {"kind": "fixed", "train_fs": 20.0, "every": 10}
    list(drive(parts_of(crystal(), labels, policy=policy)))
    assert [label.step for label in labels.stored] == [*range(11), 20, 30, 40, 50, 60]

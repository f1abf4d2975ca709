"""An engine that does not answer is named while it is waited for."""

import time

import numpy as np
import pytest
from ase.build import bulk

from otf.driver.labelling import Labeller
from otf.engines.labels import Labels
from otf.io.labels import LabelFile


class Sleeping:
    """An engine whose answers take a time each."""

    def __init__(self, *waits_s):
        self.waits_s = list(waits_s)

    def label(self, atoms, *, index, remedies=()):
        wait_s = self.waits_s.pop(0)
        time.sleep(wait_s)
        return Labels(0.0, np.zeros((len(atoms), 3)), wall_s=wait_s)


@pytest.fixture
def label(tmp_path):
    file = LabelFile(tmp_path / "labels.extxyz")

    def take(labeller, index):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.01, seed=index)
        return labeller.label(atoms, index=index, step=index)

    yield lambda engine: (Labeller(engine, file, late_s=0.1), take)
    file.close()


def test_a_late_answer_is_warned_of_and_again_when_twice_as_late(label, caplog):
    labeller, take = label(Sleeping(0.0, 0.5))
    take(labeller, 0)
    assert "not answered" not in caplog.text
    take(labeller, 1)
    late = [r.getMessage() for r in caplog.records if "not answered" in r.getMessage()]
    assert 1 < len(late) < 4
    assert late[0].startswith("label 1: the engine has not answered for")
    assert "nothing committed is lost" in late[0]


def test_answers_that_take_as_long_as_earlier_ones_are_not_late(label, caplog):
    labeller, take = label(Sleeping(0.15, 0.3))
    take(labeller, 0)
    caplog.clear()
    take(labeller, 1)
    assert "not answered" not in caplog.text

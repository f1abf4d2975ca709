"""Several engines that label side by side."""

import threading
import time

import numpy as np
import pytest
from ase import Atoms

from otf.engines.at_once import SeveralEngines, label_at_once, side_by_side
from otf.engines.labels import LabelFailure, Labels

LABEL_S = 0.2


class Slow:
    """A stand-in that takes a time for each label, and fails at one number."""

    def __init__(self, fails_at=None):
        self.fails_at, self.busy, self.asked = fails_at, threading.Lock(), []

    def label(self, atoms, *, index, remedies=(), guess=None):
        assert self.busy.acquire(blocking=False)  # one label at a time
        time.sleep(LABEL_S)
        self.asked.append(index)
        self.busy.release()
        if index == self.fails_at:
            return LabelFailure("no licence", "get one")
        return Labels(-float(index), np.zeros((len(atoms), 3)))


def structures(count):
    return {number: Atoms("H", positions=[(number, 0.0, 0.0)]) for number in range(count)}


@pytest.mark.parametrize("count", [1, 3])
def test_every_structure_is_labelled_once_by_its_number(count):
    engines = [Slow() for _ in range(count)]
    found = dict(label_at_once(engines, structures(7)))
    assert {number: labels.energy for number, labels in found.items()} == {
        number: -number for number in range(7)
    }
    asked = [number for engine in engines for number in engine.asked]
    assert sorted(asked) == list(range(7))
    assert all(engine.asked for engine in engines)


def test_they_take_a_share_of_the_time():
    walls = []
    for count in (1, 4):
        began = time.monotonic()
        assert len(list(label_at_once([Slow() for _ in range(count)], structures(8)))) == 8
        walls.append(time.monotonic() - began)
    assert walls[1] < 0.6 * walls[0]  # the labels sleep: a quarter without other load


@pytest.mark.parametrize("count", [1, 2])
def test_after_a_failure_those_in_progress_are_kept_and_no_other_is_begun(count):
    engines = [Slow(fails_at=2) for _ in range(count)]
    found = dict(label_at_once(engines, structures(20)))
    assert isinstance(found.pop(2), LabelFailure)
    assert all(isinstance(labels, Labels) for labels in found.values())
    assert {0, 1} <= set(found) <= set(range(3 + count))


def test_leaving_early_begins_no_further_label():
    engines = [Slow(), Slow()]
    for _ in label_at_once(engines, structures(50)):
        break
    time.sleep(3 * LABEL_S)
    assert sum(len(engine.asked) for engine in engines) <= 4


def test_engines_take_turns_and_number_their_own_labels():
    engines = [Slow(), Slow(), Slow()]
    several, structure = SeveralEngines(engines), structures(1)[0]
    tasks = [lambda n=n: several.label(structure, index=n) for n in range(6, 9)]
    assert [labels.energy for labels in side_by_side(tasks)] == [-2.0, -2.0, -2.0]
    assert [engine.asked for engine in engines] == [[2], [2], [2]]
    several.label(structure, index=10)
    assert engines[1].asked == [2, 3]


def test_results_come_in_the_order_of_the_tasks_with_what_was_raised():
    def task(number):
        time.sleep(0.05 * (3 - number))
        if number == 1:
            raise KeyError(number)
        return number

    found = list(side_by_side([lambda n=n: task(n) for n in range(3)]))
    assert [found[0], found[2]] == [0, 2]
    assert isinstance(found[1], KeyError)
    with pytest.raises(KeyError):
        list(side_by_side([lambda: task(1)]))

"""Wrappers around an engine pass every ability on, or declare that they do not."""

import inspect
import threading
from pathlib import Path

import pytest
from ase.build import molecule

from otf.engines.at_once import SeveralEngines
from otf.engines.labels import Labels
from otf.engines.protocol import Capabilities, DensityGuess, ForceCheck, LabelSource
from otf.runs.engine_processes import EngineInProcesses
from otf.runs.signals import StopRequest
from otf.runs.turn_taking import TurnTakingEngine
from otf.runs.warm_start import WarmStarted

ATOMS = molecule("H2")
CALLS = {
    "label": {"atoms": ATOMS, "index": 3, "remedies": ("a remedy",), "guess": None},
    "check_forces": {"atoms": ATOMS, "index": 3, "guess": DensityGuess(None)},
    "matrices": {},
    "pause": {},
}
"""Every method of the protocol, with arguments that arrive unchanged."""


class Recorder(LabelSource):
    """A source that remembers what it was asked."""

    def __init__(self):
        self.calls = []

    @property
    def capabilities(self):
        return Capabilities(True, True, False, "a test", matrices=True, force_check=True)

    @property
    def warm_start(self):
        return "learned"

    def label(self, atoms, *, index, remedies=(), guess=None):
        self.calls.append(
            ("label", {"atoms": atoms, "index": index, "remedies": remedies, "guess": guess})
        )
        return Labels(-1.0, ATOMS.positions)

    def matrices(self):
        self.calls.append(("matrices", {}))

    def check_forces(self, atoms, *, index, guess=None):
        self.calls.append(("check_forces", {"atoms": atoms, "index": index, "guess": guess}))
        return ForceCheck(ATOMS.positions, 0.1)

    def pause(self):
        self.calls.append(("pause", {}))


def in_turn(source: LabelSource, _: Path) -> LabelSource:
    lock = threading.Lock()
    lock.acquire()
    return TurnTakingEngine(
        source, lock, limit=threading.BoundedSemaphore(1), request=StopRequest(), pauses=False
    )


def warm(source: LabelSource, folder: Path) -> LabelSource:
    return WarmStarted(source, folder, ())


class SameProcess:
    """Labels as a process would, without starting one."""

    def __init__(self, source: LabelSource) -> None:
        self.source = source

    def label(self, task):
        answer = self.source.label(
            task.atoms, index=task.index, remedies=task.remedies, guess=task.guess
        )
        return answer, self.source.matrices()


def in_processes(source: LabelSource, folder: Path) -> LabelSource:
    return EngineInProcesses(SameProcess(source), source, None, folder, ATOMS)


WRAPPERS = {"turn taking": in_turn, "warm start": warm}


def test_the_protocol_has_no_other_method():
    methods = {
        name
        for name, value in vars(LabelSource).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    assert methods == set(CALLS)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("method", CALLS)
def test_wrappers_pass_calls_on(tmp_path, wrap, method):
    inner = Recorder()
    answer = getattr(wrap(inner, tmp_path), method)(**CALLS[method])
    assert (method, CALLS[method]) in inner.calls
    expected = getattr(Recorder(), method)(**CALLS[method])
    assert type(answer) is type(expected)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrappers_have_the_capabilities_of_the_engine(tmp_path, wrap):
    inner = Recorder()
    wrapped = wrap(inner, tmp_path)
    assert wrapped.capabilities == inner.capabilities
    assert wrapped.warm_start == inner.warm_start


def test_engines_in_processes_pass_labels_on_with_their_matrices(tmp_path):
    inner = Recorder()
    wrapped = in_processes(inner, tmp_path)
    assert isinstance(wrapped.label(**CALLS["label"]), Labels)
    assert inner.calls == [("label", CALLS["label"]), ("matrices", {})]
    wrapped.pause()  # a process ends with its label: there is nothing to give back


def test_engines_in_processes_declare_that_they_check_no_forces(tmp_path):
    inner = Recorder()
    wrapped = in_processes(inner, tmp_path)
    assert wrapped.capabilities.matrices
    assert not wrapped.capabilities.force_check
    assert wrapped.check_forces(ATOMS, index=0, guess=DensityGuess(None)) is None
    assert wrapped.warm_start == inner.warm_start


def test_several_engines_take_turns_and_declare_that_they_check_no_forces():
    inner = [Recorder(), Recorder()]
    several = SeveralEngines(inner)
    assert isinstance(several.label(**CALLS["label"]), Labels)
    assert inner[1].calls == [("label", CALLS["label"] | {"index": 1})]  # its second one
    several.matrices()
    assert inner[1].calls[1:] == [("matrices", {})]
    several.pause()
    assert inner[0].calls == [("pause", {})]
    assert several.capabilities.matrices
    assert not several.capabilities.force_check
    assert several.check_forces(ATOMS, index=0, guess=DensityGuess(None)) is None
    assert several.warm_start == inner[0].warm_start
    assert several.at_once == WarmStarted(several, Path(), ()).at_once == 2


def test_every_wrapper_is_here():
    """A new wrapper around a source of labels has to be added to these tests."""
    import otf.runs.assemble  # noqa: F401 -- imports what wraps
    from otf.engines.protocol import Engine

    known = {TurnTakingEngine, WarmStarted, EngineInProcesses, SeveralEngines, Recorder, Engine}
    ours = {c for c in LabelSource.__subclasses__() if c.__module__.startswith(("otf.", __name__))}
    assert ours <= known

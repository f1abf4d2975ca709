"""Engines opened in a folder of the test, and closed after it."""

import functools

import pytest

from otf.engines.registry import load_engine
from tests.engines.siesta_standin import siesta_options


@pytest.fixture
def siesta(tmp_path):
    """Options of the SIESTA engine that start the stand-in."""
    return functools.partial(siesta_options, tmp_path)


@pytest.fixture
def open_siesta(tmp_path):
    """Opens the SIESTA engine with these options for these atoms."""
    engines = []

    def make(options, atoms, scratch="s", **system):
        engine_class = load_engine("siesta")
        validated = engine_class.Options.model_validate(options)
        engines.append(engine_class(validated, **({"charge": 0, "spin": 0} | system)))
        engines[-1].open(atoms, tmp_path / scratch)
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()

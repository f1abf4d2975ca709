"""Noise of labels that depend on where the atoms are in space, measured before a run."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from otf.config.reader import config_of
from otf.engines.calculator import CalculatorEngine
from otf.engines.label_noise import noise_between, translated
from otf.engines.labels import Labels
from otf.errors import RunError
from otf.io.labels import read_labels
from otf.runs.create import write_run
from otf.runs.session import open_session

_AMPLITUDE = 0.03  # eV/Angstrom
_SPACING_A = 0.3


class WithoutGrid(CalculatorEngine):
    """An engine that says that it uses no grid; of a calculator that is not known."""

    @property
    def capabilities(self):
        return replace(super().capabilities, grid=False)


class EggBox(CalculatorEngine):
    """EMT with an error that has the period of a grid, as the forces of codes with grids have."""

    def __init__(self):
        super().__init__(EMT(), name="EMT with an egg box")
        self.indices = []

    @property
    def capabilities(self):
        return replace(super().capabilities, grid=True)

    def label(self, atoms, *, index, remedies=(), guess=None):
        self.indices.append(index)
        labels = super().label(atoms, index=index, remedies=remedies, guess=guess)
        phase = 2.0 * np.pi / _SPACING_A * (atoms.positions + np.arange(len(atoms))[:, None])
        return replace(labels, forces=labels.forces + _AMPLITUDE * np.sin(phase))


def run_of(path, *, target=20.0):
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.02, seed=0)
    config = config_of(
        {
            "system": {"molecule": "H"},
            "engine": {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
            "dynamics": {"steps": 3, "timestep_fs": 1.0},
            "policy": {"force_target_meV_A": target},
        },
        path,
    )
    return write_run(config, atoms, path / "run"), config, atoms


def session_of(run, config, atoms, engine):
    with open_session(run, config, atoms.copy(), engine=engine) as session:
        for _ in session.records():
            pass
        return session.summary(), session.parts


def test_noise_is_measured_by_one_more_label_and_enters_the_weights(tmp_path, caplog):
    run, config, atoms = run_of(tmp_path, target=5.0)
    engine = EggBox()
    with caplog.at_level("WARNING"):
        summary, parts = session_of(run, config, atoms, engine)
    assert engine.indices[:2] == [0, 0]
    assert len(engine.indices) == summary.labels + 1
    expected = np.abs(
        engine.label(atoms, index=0).forces - engine.label(translated(atoms), index=0).forces
    ).mean() / np.sqrt(2.0)
    assert summary.noise_meV_A == pytest.approx(1e3 * expected)
    assert 5.0 < summary.noise_meV_A < 40.0
    assert parts.label_noise == pytest.approx(expected)
    assert parts.trainer.settings.force_noise > 0.031
    assert "is above the target of" in caplog.text


def test_a_resumed_run_reads_the_noise_from_its_files(tmp_path):
    run, config, atoms = run_of(tmp_path)
    first, _ = session_of(run, config, atoms, EggBox())
    longer = config.model_copy(update={"dynamics": config.dynamics.model_copy(update={"steps": 5})})
    engine = EggBox()
    second, parts = session_of(run, longer, atoms, engine)
    assert second.noise_meV_A == first.noise_meV_A
    assert min(engine.indices) > 0
    assert len(read_labels(run.translated)) == 1
    assert parts.label_noise > 0.0


def test_labels_of_another_run_are_not_set_aside_by_the_measurement(tmp_path):
    """Restoring the run refuses them with the remedy; until then they stay where they are."""
    run, config, atoms = run_of(tmp_path)
    session_of(run, config, atoms, EggBox())
    other, _, moved = run_of(tmp_path / "other")
    moved.positions[0, 0] += 0.1
    session_of(other, config, moved, EggBox())
    foreign = other.labels.read_bytes()
    run.labels.write_bytes(foreign)
    longer = config.model_copy(update={"dynamics": config.dynamics.model_copy(update={"steps": 5})})
    with pytest.raises(RunError, match="put the labels file of this run back"):
        session_of(run, longer, atoms, EggBox())
    assert run.labels.read_bytes() == foreign


def test_labels_that_do_not_depend_on_a_grid_need_no_further_label(tmp_path):
    run, config, atoms = run_of(tmp_path)
    summary, parts = session_of(run, config, atoms, WithoutGrid(EMT(), name="EMT"))
    assert summary.noise_meV_A is None
    assert not run.translated.exists()
    assert parts.trainer.settings.force_noise == 0.03


def test_noise_of_independent_errors_is_that_of_one_label():
    rng = np.random.default_rng(0)
    one, other = (Labels(e, rng.normal(scale=0.02, size=(20000, 3))) for e in (0.0, 0.1))
    noise = noise_between(one, other)
    assert noise.force_rms == pytest.approx(0.02, rel=0.02)
    assert noise.force_mae == pytest.approx(0.02 * np.sqrt(2.0 / np.pi), rel=0.02)
    assert noise.energy == pytest.approx(0.1 / np.sqrt(2.0))

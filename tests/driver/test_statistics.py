"""Statistics from labels: the verdict on the target, and energy conservation."""

import numpy as np
import pytest
from ase import Atoms

from otf.driver.records import LabelRecord
from otf.driver.statistics import contract, energy_conservation
from otf.io.committed import Trajectory


def label(index: int, mae_meV_A: float, *, elapsed: int = 10, reason: str = "scheduled", **more):
    values = {
        "index": index,
        "step": 10 * index,
        "reason": reason,
        "elapsed": elapsed,
        "force_mae": 1e-3 * mae_meV_A,
        "force_p95": 0.0,
        "force_max": 0.0,
        "predicted": 0.0,
        "energy_error": 0.0,
        "wall_s": 1.0,
        "scf_iterations": None,
        "order": 1,
        "strength": 1.0,
        "coverage": 0.95,
        "size": "",
    }
    return LabelRecord(**(values | more))


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([9, 11, 10, 12, 8], "kept"),
        ([29, 31, 30, 32, 28], "broken"),
        ([5, 40, 10, 35, 8], "undecided"),
    ],
)
def test_verdict_on_the_target(errors, verdict):
    history = tuple(label(i, error) for i, error in enumerate(errors))
    found = contract(history, target=20.0, confidence_percent=95.0)
    assert found.verdict == verdict
    assert found.mean_meV_A == pytest.approx(np.mean(errors))
    assert found.low_meV_A < found.mean_meV_A < found.high_meV_A
    assert ("NOT kept" in found.in_words()) == (verdict == "broken")


def test_labels_the_model_asked_for_have_no_vote():
    history = tuple(label(i, 10.0) for i in range(4))
    asked = (*history, label(9, 500.0, reason="guard"), label(10, 500.0, reason="start"))
    assert contract(asked, target=20.0, confidence_percent=95.0).verdict == "kept"
    assert contract(history[:2], target=20.0, confidence_percent=95.0) is None


def test_label_counts_by_the_steps_it_stands_for():
    history = (label(0, 10.0, elapsed=90), label(1, 40.0, elapsed=5), label(2, 40.0, elapsed=5))
    found = contract(history, target=20.0, confidence_percent=95.0)
    assert found.mean_meV_A == pytest.approx(13.0)


def test_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(300):
        errors = rng.gamma(4.0, 5.0, size=25)  # mean 20
        found = contract(
            tuple(label(i, e) for i, e in enumerate(errors)), target=1.0, confidence_percent=95.0
        )
        held += found.low_meV_A <= 20.0 <= found.high_meV_A
    assert held / 300 == pytest.approx(0.90, abs=0.06)


def test_books_of_a_drifting_run():
    time = np.arange(0.0, 1000.0, 10.0)
    zero = np.zeros_like(time)
    series = {
        "step": np.arange(len(time)),
        "time": time,
        "conserved_energy": -5.0 + 2e-6 * time,
        "energy_discontinuity": zero + 0.003,
        "heat": zero,
        "work": zero,
        "barostat": zero,
    }
    history = (label(0, 1.0, total_energy=-4.0), label(1, 1.0, total_energy=-4.002))
    atoms = Atoms("H")
    found = energy_conservation(Trajectory(atoms, ("run",), series), history)
    assert found.conserved_meV_ps == pytest.approx(2.0)
    assert found.conserved_scatter_meV == pytest.approx(0.0, abs=1e-9)
    assert found.discontinuity_meV == pytest.approx(3.0)
    assert found.total_change_meV == pytest.approx(-2.0)
    series["conserved_energy"] = zero * np.nan
    assert energy_conservation(Trajectory(atoms, ("run",), series), history) is None

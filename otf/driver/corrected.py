"""The radial distribution functions of a run as the engine would have them, by its labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from otf.analysis.blocks import Estimate
from otf.analysis.curves import Curves
from otf.analysis.rdf import rdf
from otf.analysis.reweighting import correction
from otf.driver.directory import open_run
from otf.driver.policy import UNTRIGGERED
from otf.driver.state import load_state
from otf.errors import RunError
from otf.io.frames import Frames
from otf.io.labels import read_labels
from otf.units import KELVIN


def corrected_rdf(path: Path, frames: Frames, *, cutoff_A: float, bin_A: float) -> Curves:
    """g(r) and coordination numbers, corrected from the model to the engine.

    To each curve comes what the correction adds, with its own error: the statistical error of the
    frames and the error of the model stand apart.

    Parameters
    ----------
    path
        The run directory.
    frames
        Those of its trajectory that count.

    Raises
    ------
    RunError
        If it is a run whose samples need no correction.
    """
    run, config, atoms = open_run(path)
    if config.dynamics.ensemble == "slhmc":
        raise RunError(f"{path}: hybrid Monte Carlo samples the engine itself; leave --correct out")
    state, _, _ = load_state(run.checkpoint)
    stored = read_labels(run.labels)
    chosen = [r for r in state.history if r.reason in UNTRIGGERED and r.index < len(stored)]
    uncorrected = rdf([frames], cutoff_A=cutoff_A, bin_A=bin_A)
    single = [_of_label(frames, stored[r.index].atoms, cutoff_A, bin_A) for r in chosen]
    differences = np.array([-r.energy_error * len(atoms) for r in chosen])
    stage = list(config.dynamics.staged().values())[-1]
    temperature = stage.temperature_end_K or stage.temperature_K
    if stage.ensemble == "nve":
        kinetic = frames.series["kinetic_energy_eV"].mean()
        temperature = float(2.0 * kinetic / (3.0 * len(atoms) * KELVIN))
    names = list(uncorrected.y)
    found = correction(
        np.array([[c.y[name].mean for name in names] for c in single]).reshape(
            len(single), len(names), len(uncorrected.x)
        ),
        differences,
        temperature_K=temperature,
    )
    y = {}
    for i, name in enumerate(names):
        y[name] = uncorrected.y[name]
        if found.method != "none":
            shift = Estimate(found.shift.mean[i], found.shift.error[i])
            y[name] = replace(y[name], mean=y[name].mean + shift.mean)
            y[f"{name}_shift"] = shift
    notes = (
        *uncorrected.notes,
        f"correction to the engine: {found.method}; {found.why}",
        f"model and engine differ by {found.scatter_kT:.2f} kT over {found.labels} labels",
    )
    return replace(uncorrected, y=y, notes=notes)


def _of_label(frames: Frames, atoms: Atoms, cutoff_A: float, bin_A: float) -> Curves:
    one = replace(
        frames,
        positions=np.array([atoms.positions]),
        cells=np.array([atoms.cell.array]),
        time_fs=None,
        velocities=None,
        series={},
    )
    return rdf([one], cutoff_A=cutoff_A, bin_A=bin_A)

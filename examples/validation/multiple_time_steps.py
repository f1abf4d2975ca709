"""Energy conservation and time of multiple time steps, by the model of a run with `use: respa`.

    otf run examples/validation/ethanol_respa.yaml
    python examples/validation/multiple_time_steps.py runs/ethanol_respa

Microcanonical dynamics on the model of the run as it ended, from the first structure and its
velocities. No guard takes labels here, so it must not be hotter than the run was.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from otf.driver.generators import exhausted
from otf.driver.residual_correction import ResidualCorrection
from otf.driver.segment import ModelForces, SegmentIntegrator
from otf.errors import RunError
from otf.learning.force_model import ForceModel
from otf.learning.model_file import read_model
from otf.runs.assemble import make_ensemble
from otf.runs.baseline import baseline_of
from otf.runs.directory import read_run

_COMMON = 12  # steps between the compared energies: all the tried numbers divide it


class _Fixed(NamedTuple):
    """A model that learns no more, as the dynamics uses it."""

    force_model: ForceModel


def main() -> None:
    """Print drift and scatter of the total energy, and the time of a step."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="directory of a finished run")
    parser.add_argument("--steps", type=int, default=4800)
    arguments = parser.parse_args()
    run, config, atoms = read_run(arguments.run)
    baseline, model = baseline_of(config, run, atoms), read_model(run.model)
    if baseline.stepping is None:
        raise RunError(f"{arguments.run}: has no baseline with use: respa")
    print("| evaluated at every | drift, meV/ps | scatter, meV | ms a step |\n|---|---|---|---|")
    for every in (1, 2, 3, 4, 6):
        stepping = replace(baseline.stepping, every=every)
        stepped = replace(model, baseline=replace(baseline, stepping=stepping))
        moved, dynamics = atoms.copy(), next(iter(config.dynamics.staged().values()))
        changed = {"ensemble": "nve", "steps": arguments.steps, "temperature_end_K": None}
        motion = SegmentIntegrator(
            make_ensemble(dynamics.model_copy(update=changed), moved),
            timestep_fs=dynamics.timestep_fs,
            frame_every=_COMMON,
        )
        forces = ModelForces(_Fixed(stepped), ResidualCorrection(None, 0, 1))
        began = time.perf_counter()
        done = exhausted(motion.integrate(motion.position, arguments.steps, forces, keep=(0, 0)))
        wall_s = time.perf_counter() - began
        energies = 1000 * np.array([frame.conserved_energy for frame in done.frames])
        times_ps = np.array([frame.time_fs for frame in done.frames]) / 1000
        drift, start = np.polyfit(times_ps, energies, 1)
        scatter = float((energies - start - drift * times_ps).std())
        step_ms = 1000 * wall_s / arguments.steps
        print(f"| {every} | {drift:.2f} | {scatter:.2f} | {step_ms:.2f} |", flush=True)


if __name__ == "__main__":
    main()

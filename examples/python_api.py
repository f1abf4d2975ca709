"""A run from Python: iterated, stopped, opened again, made longer, and looked at."""

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT

import otf

run = otf.Run(
    bulk("Cu", cubic=True).repeat(2),
    engine=EMT(),  # any ASE calculator; or a name and options: {"kind": "siesta", ...}
    directory="runs/copper",
    ensemble="langevin",
    temperature_K=600,
    timestep_fs=2.0,
    steps=400,
    force_target_meV_A=20,
)
for segment in run:  # committed to the disk; leave the loop whenever you like
    if segment.state.step >= 100:
        break

run = otf.open_run("runs/copper", engine=EMT()).extend(400)
summary = run.run()
print(f"{summary.labels} labels for {summary.steps} steps; measured: {summary.error}")
temperatures = [atoms.get_temperature() for atoms in run.trajectory[200:]]
print(f"mean temperature {np.mean(temperatures):.0f} K over {len(temperatures)} frames")
print(f"force error of a fit to its labels: {1e3 * otf.fit(run.labels).train.force_mae:.2f} meV/A")

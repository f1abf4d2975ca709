"""Gap of a molecule against temperature, from Hamiltonians learned along accelerated runs.

python examples/gap_of_temperature.py --molecule C2H4 --temperatures 100 300 500 700

After Zhong et al. (HamGNN-DM), who plot it for a crystal. DFT labels by PySCF; about two minutes
per temperature. Writes gap.png; runs are kept in runs/ and not repeated.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from otf.cli.main import main
from otf.io.read_frames import read_frames
from otf.postprocess.electronic.learned_matrices import sources_of
from otf.postprocess.electronic.levels import gap

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--molecule", default="C2H4")
parser.add_argument("--basis", default="6-31g")
parser.add_argument("--temperatures", type=float, nargs="+", default=[100, 300, 500, 700])
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--from", dest="start_fs", type=float, default=100.0, help="fs")
parser.add_argument("--every", type=int, default=10, help="frames")
options = parser.parse_args()

CONFIG = """\
system: {{molecule: {molecule}}}
engine: {{kind: pyscf, basis: {basis}, grid_level: 1, threads: 1}}
dynamics: {{ensemble: langevin, temperature_K: {temperature}, steps: {steps}, timestep_fs: 0.5}}
policy: {{force_target_meV_A: 10}}
"""

means, errors = [], []
for temperature in options.temperatures:
    run = Path(f"runs/gap-{options.molecule}-{temperature:.0f}K")
    if not run.exists():
        config = Path(f"{run.name}.yaml")
        config.write_text(CONFIG.format(temperature=temperature, **vars(options)))
        main(["run", str(config), "--output", str(run)])
    frames = read_frames(run).between(options.start_fs, None, options.every)
    found = gap(sources_of([run], None, None), [frames])
    mean = found.numbers["mean_gap_eV"]
    means.append(float(mean.mean))
    errors.append(float(mean.error))
    spread = float(np.std(found.y["gap_eV"].mean))
    print(f"{temperature:6.0f} K  {means[-1]:.4f} +- {errors[-1]:.4f} eV, spread {spread:.4f}")
    print(f"          {found.notes[0]}", flush=True)

figure = Figure(figsize=(5, 3.5), layout="constrained")
axes = figure.subplots()
axes.errorbar(options.temperatures, means, 2.0 * np.array(errors), fmt="o-", capsize=3)
axes.set_xlabel("temperature, K")
axes.set_ylabel("mean gap, eV")
axes.set_title(f"{options.molecule}, PBE/{options.basis}; bars: two standard errors")
figure.savefig("gap.png", dpi=150)

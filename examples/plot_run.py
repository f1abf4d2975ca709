"""Plot of a run with its true errors: python examples/plot_run.py RUN_DIR OUT.png [EVERY].

Needs matplotlib (pip install 'otf-aimd[report]'). The engine labels every EVERY-th frame once more,
as `otf audit` does, so that the errors shown are measured and not the model's own estimates.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

from otf.io.trajectory import read_trajectory
from otf.postprocess.audit import Audit
from otf.runs.checkpoint import read_checkpoint
from otf.runs.directory import read_run

mpl.use("Agg")
import matplotlib.pyplot as plt

path, out = Path(sys.argv[1]), sys.argv[2]
every = int(sys.argv[3]) if len(sys.argv) > 3 else 20
run, config, _ = read_run(path)
state = read_checkpoint(run.checkpoint).state
trajectory = read_trajectory(run.trajectory)
femtoseconds = config.dynamics.timestep_fs
frames = list(Audit(path, every=every).frames())

label_fs = np.array([r.step for r in state.history]) * femtoseconds
label_error = 1e3 * np.array([r.force_mae for r in state.history])
true_fs = np.array([f.step for f in frames]) * femtoseconds
true_error = 1e3 * np.array([np.mean(np.abs(f.force_errors)) for f in frames])
total = trajectory.potential_energy + trajectory.kinetic_energy

plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
figure, (top, middle, bottom) = plt.subplots(
    3, 1, figsize=(7.2, 5.6), sharex=True, height_ratios=(3, 2, 2), constrained_layout=True
)
top.semilogy(true_fs, true_error, ".", ms=3, color="0.55", label="committed frames (audit)")
top.semilogy(label_fs, label_error, "o", ms=4, color="C3", label="at labels, before learning")
top.axhline(config.policy.force_target_meV_A, color="k", lw=0.8, ls="--", label="target")
top.set_ylabel("force error\n(MAE, meV/Å)")
top.legend(frameon=False, ncols=3, loc="upper right")
middle.step(np.sort(label_fs), np.arange(1, len(label_fs) + 1), where="post", color="C0")
middle.set_ylabel("labels so far")
share = 100 * len(label_fs) / trajectory.step[-1]
middle.annotate(
    f"{len(label_fs)} labels for {trajectory.step[-1]} steps ({share:.1f} %)",
    (0.98, 0.12), xycoords="axes fraction", ha="right",
)  # fmt: skip
bottom.plot(trajectory.time_fs, 1e3 * (total - total[0]), lw=0.7, color="C2")
bottom.set_ylabel("total energy\nminus initial (meV)")
bottom.set_xlabel("time (fs)")
figure.savefig(out, dpi=130)
print(f"wrote {out}: {len(frames)} audited frames, mean error {true_error.mean():.2f} meV/A")

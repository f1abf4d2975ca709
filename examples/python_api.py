"""A run from Python: configuration in, summary and trajectory out."""

from pathlib import Path

from otf.config import read_config
from otf.io.trajectory import read_trajectory
from otf.runs.directory import create_run, open_run
from otf.runs.session import run_session

source = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
run = create_run(read_config(source), source, Path("runs/from_python"))
summary = run_session(*open_run(run.path))
trajectory = read_trajectory(run.trajectory)
print(f"{summary.labels} labels for {summary.steps} steps; measured: {summary.measured}")
print(f"mean temperature {trajectory.temperature.mean():.0f} K over {len(trajectory)} frames")

"""Collective variables of trajectories, and free energies along them without a run's bias."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from otf.analysis.blocks import Estimate, block_estimate
from otf.analysis.curves import Curves
from otf.analysis.free_energy import free_energy, weights_of
from otf.arrays import Floats
from otf.dynamics.bias import Metadynamics
from otf.dynamics.collective_variables import CollectiveVariable
from otf.errors import RunError
from otf.io.frames import Frames
from otf.runs.bias import make_bias, potentials_of
from otf.runs.checkpoint import read_checkpoint
from otf.runs.directory import read_run
from otf.units import MEV


def over_time(runs: Sequence[Frames], variable: CollectiveVariable) -> Curves:
    """A variable over the time of the frames, with its mean.

    Raises
    ------
    RunError
        If an atom of the variable does not exist, or there are several runs.
    """
    if len(runs) > 1:
        raise RunError("a variable over time is that of one run; give one")
    frames = runs[0]
    values = _values(frames, variable)
    unit, scale = _unit(variable)
    times = np.arange(len(frames), dtype=float) if frames.time_fs is None else frames.time_fs
    name = f"{variable.kind}_{unit}"
    exact = Estimate(scale * values, np.full(len(values), math.nan))
    # Torsions have no mean: they are counted around the circle.
    numbers = {} if variable.kind == "torsion" else {name: block_estimate(scale * values)}
    x_name = "frame" if frames.time_fs is None else "time_fs"
    return Curves(
        f"{variable.kind} of atoms {variable.atoms}", x_name, times, {name: exact}, numbers
    )


def free_energy_along(
    path: Path, frames: Frames, variable: CollectiveVariable | None, *, bins: int
) -> Curves:
    """Free energy in meV, above its minimum, over the values of a variable.

    Parameters
    ----------
    path
        The run directory.
    frames
        Frames of its trajectory.
    variable
        By default the first one of its metadynamics, or of its bias.
    bins
        Number of bins; over the whole circle for a torsion.

    Raises
    ------
    RunError
        If there is no variable, several stages, or no constant temperature.
    """
    run, config, _ = read_run(path)
    stages = [-1] if frames.stage is None else np.unique(frames.stage)
    if len(stages) != 1:
        raise RunError(f"{path}: a free energy is that of one stage; name it: --stage NAME")
    settings = list(config.dynamics.staged().values())
    dynamics = settings[min(int(stages[0]), len(settings) - 1)]  # hybrid Monte Carlo has one
    if dynamics.ensemble == "nve" or dynamics.temperature_end_K is not None:
        raise RunError(f"{path}: a free energy needs a thermostat of constant temperature")
    if config.dynamics.plumed is not None:
        raise RunError(
            f"{path}: PLUMED analyses its bias itself: plumed sum_hills --hills "
            f"{run.plumed / 'HILLS'}"
        )
    potentials = potentials_of(config.dynamics)
    growing = [p for p in potentials if isinstance(p, Metadynamics)]
    if variable is None:
        if not potentials:
            raise RunError(f"{path}: has no bias; name a variable: --along 'torsion 0 1 2 3'")
        variable = (growing or potentials)[0].variables[0]
    values = _values(frames, variable)
    bias = make_bias(config.dynamics)
    bias.hills = read_checkpoint(run.checkpoint).state.dynamics.hills
    # Frames of hybrid Monte Carlo have no times, and no bias.
    times_fs = np.zeros(len(frames)) if frames.time_fs is None else frames.time_fs
    steps = np.rint(times_fs / config.dynamics.timestep_fs).astype(int)
    structures = (frames.structure(row) for row in range(len(frames)))
    energies = bias.energies_of(structures, steps, dynamics.temperature_K)
    weights = weights_of(energies, dynamics.temperature_K)
    numbers = {"effective_frames": _exact(weights.sum() ** 2 / (weights**2).sum())}
    if growing:
        heights = bias.hills[:, -1]
        numbers["hills"] = _exact(len(heights))
        numbers["last_hill_meV"] = _exact(heights[-1] / MEV if len(heights) else math.nan)
    if variable.kind == "torsion":
        edges = np.linspace(-math.pi, math.pi, bins + 1)
    else:
        edges = np.linspace(values.min(), values.max(), bins + 1)
    found = free_energy(values, energies, edges, temperature_K=dynamics.temperature_K)
    unit, scale = _unit(variable)
    centres = np.round(0.5 * scale * (edges[1:] + edges[:-1]), 9)
    name = "_".join([variable.kind, *map(str, variable.atoms), unit])
    mean = np.where(np.isfinite(found.mean), found.mean / MEV, np.nan)
    y = {"free_energy_meV": replace(found, mean=mean, error=found.error / MEV)}
    notes = (f"{len(frames)} frames at {dynamics.temperature_K:g} K",)
    return Curves(f"free energy of the {variable.kind}", name, centres, y, numbers, notes)


def _values(frames: Frames, variable: CollectiveVariable) -> Floats:
    last = len(frames.atoms) - 1
    if max(variable.atoms) > last:
        raise RunError(f"{frames.name}: --along: the atoms are numbered from 0 to {last}")
    return np.array([variable.of(frames.structure(row)).value for row in range(len(frames))])


def _unit(variable: CollectiveVariable) -> tuple[str, float]:
    """Unit of a variable in files, and its size in that of the variable."""
    return ("degrees", 180.0 / math.pi) if variable.is_angle else ("A", 1.0)


def _exact(number: float) -> Estimate:
    return Estimate(np.array(number), np.array(math.nan))
